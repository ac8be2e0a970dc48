"""Data sets: reading, checking, splitting and transforming them; one module a format in ``readers``."""

from xpnet.data.column import Column
from xpnet.data.dataset import Dataset, LabelledSet, RawDataset
from xpnet.data.encoder import Encoder
from xpnet.data.find import CIFAR10_HINT, find_cifar10
from xpnet.data.fingerprint import as_earlier, fingerprint
from xpnet.data.load import IN_MEMORY, data_from_arrays, load_data, read_raw
from xpnet.data.named_columns import NamedColumns
from xpnet.data.patterns import patterns
from xpnet.data.splits import parse_split, split_raw
from xpnet.data.standardise import Standardiser
from xpnet.data.transform import Transform
from xpnet.data.transformed_rows import TransformedRows, transformed
from xpnet.data.views import samples_of
from xpnet.utils.lazy_arrays import Rows, StandardisedRows, kept_as_bytes, on_host

Data = Dataset
"""The name of :class:`Dataset` in earlier versions."""

__all__ = [
    "CIFAR10_HINT",
    "IN_MEMORY",
    "Column",
    "Data",
    "Dataset",
    "Encoder",
    "LabelledSet",
    "NamedColumns",
    "RawDataset",
    "Rows",
    "StandardisedRows",
    "Standardiser",
    "Transform",
    "TransformedRows",
    "as_earlier",
    "data_from_arrays",
    "find_cifar10",
    "fingerprint",
    "kept_as_bytes",
    "load_data",
    "on_host",
    "parse_split",
    "patterns",
    "read_raw",
    "samples_of",
    "split_raw",
    "transformed",
]
