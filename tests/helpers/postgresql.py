"""A PostgreSQL server of the tests' own: a fresh cluster in a temporary folder, on a socket, ended with the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Return the folder of the server's programs; None if it is not installed."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    folders += [Path(path).parent for path in [shutil.which("initdb")] if path is not None]
    whole = [folder for folder in folders if all((folder / name).exists() for name in ("initdb", "pg_ctl", "createdb"))]
    return max(whole, default=None)


def stop(programs: Path, cluster: Path) -> None:
    """End a server at once, as a crash does; nothing where it has ended."""
    if (cluster / "postmaster.pid").exists():
        _run(cluster.parent, str(programs / "pg_ctl"), "-D", str(cluster), "-m", "immediate", "stop")


def _run(folder: Path, *command: str) -> None:
    own = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to run as root
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, **own)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Run a server; yield the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="xpnet-postgresql-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    try:
        cluster = str(folder / "data")
        _run(folder, str(programs / "initdb"), "-D", cluster, "-A", "trust", "-U", "xpnet", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        _run(folder, str(programs / "pg_ctl"), "-D", cluster, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            _run(folder, str(programs / "createdb"), "-h", str(folder), "-U", "xpnet", "study")
            yield f"postgresql://xpnet@/study?host={folder}"
        finally:
            stop(programs, Path(cluster))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
