"""The published archives of CIFAR-10 and CIFAR-100: where they are, how large, and their checksums."""

from __future__ import annotations

from dataclasses import dataclass

HOME = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        data: The data set.
        layout: ``python``, ``binary`` or ``matlab``.
        folder: The folder that it unpacks to.
        md5: Its checksum.
        size: Its size in bytes; None if only the checksum is known.
    """

    data: str
    layout: str
    folder: str
    md5: str
    size: int | None

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.data.replace('cifar', 'cifar-')}-{self.layout}.tar.gz"


ARCHIVES = {
    (archive.data, archive.layout): archive
    for archive in (
        Archive("cifar10", "python", "cifar-10-batches-py", "c58f30108f718f92721af3b95e74349a", 170_498_071),
        Archive("cifar10", "binary", "cifar-10-batches-bin", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171),
        Archive("cifar10", "matlab", "cifar-10-batches-mat", "70270af85842c9e89bb428ec9976c926", None),
        Archive("cifar100", "python", "cifar-100-python", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
    )
}

# Checksums of the files in the Python layout of CIFAR-10.
BATCH_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
