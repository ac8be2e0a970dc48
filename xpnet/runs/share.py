"""One file with everything about runs that others need to repeat them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from xpnet.config.settings import CONFIG
from xpnet.config.shared import DATA
from xpnet.errors import RunError, printable
from xpnet.runs.folder import CROSS_VALIDATION, ENVIRONMENT, HISTORY, METRICS
from xpnet.runs.records import read_environment
from xpnet.runs.resume import data_seen
from xpnet.utils.parsing import MOST_JSON, read_bytes

_FILES = (CONFIG, METRICS, HISTORY, ENVIRONMENT, CROSS_VALIDATION)
# A history of more bytes is left out.
_LARGEST = 8 * MOST_JSON


def shared_archive(runs: Sequence[Path], page: bytes) -> bytes:
    """Return a ZIP archive of a page and of the settings, figures and data fingerprints of the runs that it shows.

    Networks, checkpoints and data are not in it.  The same runs and page give the same bytes.

    Args:
        runs: Run folders.
        page: The HTML page.

    Raises:
        RunError: A file cannot be read.
    """
    stream, names = io.BytesIO(), _names(runs)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)

        add("report.html", page)
        add("README.txt", _read_me(runs, names).encode())
        for run, name in zip(runs, names, strict=True):
            for file in _FILES:
                if (run / file).is_file() and (run / file).stat().st_size <= _LARGEST:
                    add(f"{name}/{file}", read_bytes(run / file, _LARGEST, RunError))
            if fingerprint := data_seen(run):
                add(f"{name}/{DATA}", (json.dumps(fingerprint, indent=2) + "\n").encode())
    return stream.getvalue()


def _names(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run's folder in the archive, all different."""
    names = [printable(run.resolve().name).replace("/", "-") or "run" for run in runs]
    return [name if names.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(names, start=1)]


def _read_me(runs: Sequence[Path], names: Sequence[str]) -> str:
    words = "This archive holds runs of xpnet: report.html shows them, and the folders have what it takes to repeat\n"
    lines = [f"{words}them. It holds neither networks nor data.", ""]
    for run, name in zip(runs, names, strict=True):
        environment = read_environment(run / ENVIRONMENT) if (run / ENVIRONMENT).is_file() else {}
        where = "THIS_FILE.zip" if len(runs) == 1 else f"{name}/config.toml"
        lines += [name, f"  again:    xpnet train --config {where} --data WHERE_YOUR_COPY_LIES"]
        lines += [f"  given:    {environment['command']}"] if environment.get("command") else []
        lines += (
            [f"  made by:  xpnet {environment['xpnet']} on {environment.get('cpu')}"] if "xpnet" in environment else []
        )
        facts = ", ".join(f"{fact} {value}" for fact, value in data_seen(run).items())
        lines += [f"  data:     {facts}"] if facts else []
        lines.append("")
    return "\n".join(lines)
