"""The slots of pages about GPUs, from the newest result of ``python -m bench gpu`` and the record of the kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.kernels import WORDS, table
from bench.results import BenchError, read

# The measurements, with the bar that each is compared with.
BARS = (
    ("3072-50-50-10 with BN, batch 100, `graph`", "3072-50-50-10 with BN", "xpnet graph", 65),
    ("the same, `small`", "3072-50-50-10 with BN", "xpnet small", 15),
    ("3072-512-512-10 with BN, batch 100, `graph`", "3072-512-512-10 with BN", "xpnet graph", 75),
    ("the same with TF32", "3072-512-512-10 with BN", "xpnet graph, TF32", 50),
)
_FIFTY, _START = 150, 1.5
# Parts whose figures are the table's.
_TABLED = ("epochs", "peers", "populations", "multi", "persistent", "start")


def slots(folder: Path) -> dict[str, str]:
    """Return the texts of the slots ``gpu`` and ``kernels``."""
    record = folder / "kernels.json"
    if record.exists():
        found = json.loads(record.read_text(encoding="utf-8"))
        kernels = f"{table(found['kernels'])}\n\n{WORDS} By {found['compiler']}."
    else:
        kernels = "Not recorded yet."
    return {"gpu": _gpu(folder), "kernels": kernels}


def _gpu(folder: Path) -> str:
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = read(path)
        except BenchError:
            continue
        if "parts" in result:
            results.append((result["machine"]["date"], result["machine"].get("time", ""), path, result))
    header = "| µs a step | bar | measured |\n|---|---|---|\n"
    if not results:
        rows = [f"| {what} | ≤ {bar} | open |" for what, _, _, bar in BARS]
        rows += [
            f"| 50 networks of the first kind, together | ≤ {_FIFTY} | open |",
            f"| first step, from the command | ≤ {_START} s | open |",
        ]
        return header + "\n".join(rows) + "\n\nNone of these has been measured yet: `python -m bench gpu` does."
    _, _, path, result = max(results, key=lambda item: item[:2])
    return header + "\n".join(_rows(result["parts"])) + "\n\n" + _words(result, path)


def _rows(parts: dict[str, Any]) -> list[str]:
    lines = []
    named = {(network, who): bar for _, network, who, bar in BARS}
    timed, others = (parts.get(part, {}).get("rows", {}) for part in ("epochs", "peers"))
    for network in timed | others:
        for who, row in {**timed.get(network, {}), **others.get(network, {})}.items():
            bar = named.get((network, who))
            lines.append(f"| {network}: {who} | {f'≤ {bar}' if bar else ''} | {_value(row)} |")
    together: dict[str, dict[str, Any]] = {}
    for part in ("populations", "multi"):
        for replicas, kinds in parts.get(part, {}).get("rows", {}).items():
            together[replicas] = together.get(replicas, {}) | kinds
    for replicas, kinds in together.items():
        for kind, row in kinds.items():
            bar = f"≤ {_FIFTY}" if (replicas, kind) == ("50", "auto") else ""
            lines.append(f"| {replicas} networks of the first kind: {kind} | {bar} | {row['median']:,.1f} |")
    for shape, kinds in parts.get("persistent", {}).get("rows", {}).items():
        lines += [f"| one network, {shape}: {kind} |  | {_value(row)} |" for kind, row in kinds.items()]
    seconds = parts.get("start", {}).get("seconds", [])
    if len(seconds) > 1:
        lines.append(f"| first step, from the command | ≤ {_START} s | {min(seconds[1:]):.2f} s |")
    return lines


def _value(row: dict[str, Any]) -> str:
    if "failed" in row:
        return str(row["failed"])
    mark = ", without a CUDA graph" if row.get("graph_skips") else ""
    return f"{row['median']:,.1f} (min {row['min']:,.1f}){mark}"


def _words(result: dict[str, Any], path: Path) -> str:
    gpu, machine = result["gpu"], result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    outcomes = "; ".join(
        f"{name}: {part.get('failed') or part.get('skipped') or part.get('summary', 'done')}"
        for name, part in result["parts"].items()
        if name not in _TABLED or "failed" in part or "skipped" in part
    )
    return (
        f"`{result['command']}`, {machine['date']}, commit {machine.get('commit')}: {gpu.get('name')}, driver "
        f"{gpu.get('driver')}, {versions} ([all values](../bench/results/{path.name})).\n\n{outcomes}."
    )
