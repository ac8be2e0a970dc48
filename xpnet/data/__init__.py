"""Data sets: reading, checking, splitting and standardising them.  NumPy alone; no device is involved."""

from xpnet.data.bytes import StandardisedBytes, on_host
from xpnet.data.cifar import CIFAR10_HINT, find_cifar10
from xpnet.data.loading import data_from_arrays, load_data, read_source
from xpnet.data.patterns import patterns
from xpnet.data.source import Data, LabelledSet, Source
from xpnet.data.splits import parse_split, split_source
from xpnet.data.standardise import Standardiser

__all__ = [
    "CIFAR10_HINT",
    "Data",
    "LabelledSet",
    "Source",
    "StandardisedBytes",
    "Standardiser",
    "data_from_arrays",
    "find_cifar10",
    "load_data",
    "on_host",
    "parse_split",
    "patterns",
    "read_source",
    "split_source",
]
