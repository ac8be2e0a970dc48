"""What tests of fetching share."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import cifar_files
import pytest
from archive_server import FOLDER, Server

from xpnet.data import download
from xpnet.data import published as known


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return a small archive that is taken for the published one, and fetch into a folder of the test's own."""
    batch = {name: cifar_files.batch(seed, 2) for seed, name in enumerate(cifar_files.FILES)}
    folder = cifar_files.write_folder(tmp_path / "made" / FOLDER, **batch)
    content = cifar_files.write_archive(tmp_path / "made" / "a.tar.gz", folder).read_bytes()
    key = ("cifar10", "python")
    published = dataclasses.replace(known.ARCHIVES[key], md5=hashlib.md5(content).hexdigest(), size=len(content))
    monkeypatch.setitem(known.ARCHIVES, key, published)
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(download, "_PAUSES", (0, 0, 0, 0))
    monkeypatch.setattr(download, "_SILENT_SECONDS", 0.3)
    return content


@pytest.fixture
def server(archive: bytes) -> Iterator[Server]:
    with Server(archive) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
