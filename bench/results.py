"""Result files: their content, writing and reading.

A file holds suites, a suite cases, a case rows: one for each contender, with the measured values.  Comparisons and
pages depend on nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FORMAT = "xpnet-bench-2"
FOLDER = Path(__file__).parent / "results"


class BenchError(Exception):
    """Something the user can put right, in one sentence; exit code 2."""


def write(path: Path, result: dict[str, Any], *, replace: bool = False) -> None:
    """Write a result to a new file, or with `replace` in the place of what was written there before.

    Raises:
        BenchError: The file exists, or cannot be written.
    """
    target = path.with_name(f".{path.name}") if replace else path
    try:
        with target.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(json.dumps(_rounded({"format": FORMAT} | result), indent=1) + "\n")
        target.replace(path)
    except OSError as error:
        raise BenchError(
            f"{path}: {error.strerror or error}; --out takes a new file in a folder that is there"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        BenchError: There is no such file, or it is not a result.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise BenchError(f"{path}: is not JSON ({error})") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise BenchError(f"{path}: is not a result of this version, which says format = {FORMAT}")
    try:
        for suite in result["suites"].values():
            for case in suite["cases"].values():
                for row in case["rows"].values():
                    figures = [row[key] for key in ("median", "min", "q1", "q3")] + row["values"]
                    if not row["values"] or not all(isinstance(figure, (int, float)) for figure in figures):
                        raise ValueError(f"figures = {figures}")
        str(result["machine"]["date"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(f"{path}: is not a whole result ({type(error).__name__}: {error})") from None
    return result


def newest(folder: Path = FOLDER) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the newest result of each suite, with its file: later ones take over by date, time and name."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            results.append((path, read(path)))
        except BenchError:
            continue  # of an earlier format
    results.sort(key=lambda item: (item[1]["machine"]["date"], item[1]["machine"].get("time", ""), item[0].name))
    for path, result in results:
        for suite in result["suites"]:
            found[suite] = (path, result)
    return found


def _rounded(value: Any) -> Any:
    """Return `value` with six digits of each number: no clock is more precise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value
