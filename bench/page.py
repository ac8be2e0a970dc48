"""The figures of ``docs/performance.md``, ``docs/clusters.md`` and the README, made from the newest results.

python -m bench page            # write them
python -m bench page --check    # exit code 1 if they are not what this would write
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.page import slots as gpu_slots
from bench.results import FOLDER, BenchError, newest
from bench.tables import OURS, TABLES, Cases, short

ROOT = Path(__file__).parents[1]
PAGE, README, FIGURE = Path("docs/performance.md"), Path("README.md"), Path("docs/images/performance")
GPU, CLUSTERS = Path("docs/gpu.md"), Path("docs/clusters.md")
_KINDS = ["xpnet", "floor: NumPy's gather and products alone", "others"]
_EMPTY = "Not measured yet."
Newest = dict[str, tuple[Path, dict[str, Any]]]


def slots(results: Newest) -> dict[str, str]:
    """Return the text of every slot: by suite, ``claim`` for the README, and ``machine``."""
    texts = {}
    for suite, table in TABLES.items():
        if suite not in results:
            texts[suite] = _EMPTY
            continue
        path, result = results[suite]
        texts[suite] = f"{table(result['suites'][suite]['cases'])}\n\n{_source(path, result, suite)}"
    texts["claim"] = claim(results)
    texts["checked"] = checked(results)
    if "epoch" in results:
        texts["figure"] = f"![Time of a step of every contender, by network]({FIGURE.relative_to('docs')}.png)"
    else:
        texts["figure"] = _EMPTY
    texts["machine"] = _machines(results)
    return texts


def fill(text: str, texts: dict[str, str]) -> str:
    """Return a page with the text between ``<!-- bench:NAME -->`` and ``<!-- /bench:NAME -->`` replaced.

    Raises:
        BenchError: A mark is opened and not closed, or names nothing.
    """
    for name in re.findall(r"<!-- bench:(\w+) -->", text):
        if name not in texts:
            raise BenchError(f"<!-- bench:{name} -->: there is no such slot; there are {', '.join(texts)}")
        opening, closing = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if closing not in text:
            raise BenchError(f"{opening}: is not closed by {closing}")
        head, rest = text.split(opening, 1)
        text = f"{head}{opening}\n{texts[name]}\n{closing}{rest.split(closing, 1)[1]}"
    return text


def claim(results: Newest) -> str:
    """Return the one sentence of the README."""
    if "epoch" not in results or "a" not in results["epoch"][1]["suites"]["epoch"]["cases"]:
        return _EMPTY
    result = results["epoch"][1]
    case = result["suites"]["epoch"]["cases"]["a"]
    rows, machine = case["rows"], result["machine"]
    name = min((who for who in OURS[:2] if who in rows), key=lambda who: rows[who]["median"])
    ours = rows[name]
    others = [
        f"{row['median'] / ours['median']:.1f} times as fast as {who}"
        for who, row in sorted(rows.items(), key=lambda item: item[1]["median"])
        if who not in (*OURS, "floor")
    ]
    what = case["what"].split(",")[0]
    extra = " with the extra `fast`" if name == "xpnet fast" else ""
    shown = f": {_and(others[:3])}" if others else ""
    reached = ""
    if "floor_reached" in ours:
        reached = f", {100 * ours['floor_reached']:.0f} % of the speed of NumPy's gather and products alone"
    return (
        f"An epoch of {what} on {result['samples']:,} samples takes {ours['epoch_seconds']:.2f} s "
        f"on {machine['cores']} cores of an {machine['processor']}{extra}{shown}{reached} "
        f"(medians, `{result['command']}`, {machine['date']})."
    )


def checked(results: Newest) -> str:
    """Return what the README says of the gradient check."""
    if "gradcheck" not in results:
        return _EMPTY
    case = next(iter(results["gradcheck"][1]["suites"]["gradcheck"]["cases"].values()))
    fast, naive = (case["rows"][key]["median"] for key in ("fast", "naive"))
    return (
        f"A check of all {case['detail']['parameters']:,} gradients of that network with 100 samples takes "
        f"{fast:.1f} s on the same machine, where whole forward passes would take {naive:.0f} s."
    )


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _source(path: Path, result: dict[str, Any], suite: str) -> str:
    machine = result["machine"]
    commit = f", commit {machine['commit']}" if machine.get("commit") else ""
    before, after = (
        f"{result[key]['gemm_gflops']:.0f} GFLOP/s and {result[key]['copy_gb_s']:.0f} GB/s"
        for key in ("probe_before", "probe_after")
    )
    seconds = result["suites"][suite]["seconds"]
    return (
        f"`{result['command']}`, {machine['date']}{commit}: {machine['cores']} cores of an {machine['processor']}, "
        f"which gave {before} before and {after} after the {seconds:.0f} s that this took "
        f"([all values](../bench/results/{path.name}))."
    )


def _machines(results: Newest) -> str:
    """Return what each result was measured on, one line a file."""
    if not results:
        return _EMPTY
    lines = {}
    for suite, (path, result) in results.items():
        if suite not in TABLES:
            continue
        machine = result["machine"]
        packages = dict(machine["packages"])
        for found in result["suites"].values():
            for case in found["cases"].values():
                for row in case["rows"].values():
                    packages |= row.get("versions", {})
        blas = [
            f"OpenBLAS {pool.get('version')} ({pool.get('architecture')}), {pool.get('num_threads')} threads"
            for pool in machine["pools"]
            if pool.get("internal_api") == "openblas"
        ]
        shown = ", ".join([*(f"{name} {version}" for name, version in packages.items()), *blas])
        settings = ", ".join(f"{name}={value}" for name, value in machine["environment"].items())
        lines[path.name] = (
            f"- [{path.name}](../bench/results/{path.name}): {machine['cores']} cores of an {machine['processor']}, "
            f"{machine['system']}, Python {machine['python']}, {shown}{'; ' + settings if settings else ''}"
        )
    return "\n".join(lines[name] for name in sorted(lines))


def chart(cases: Cases) -> Any:
    """Return bars of the microseconds a step of every contender, one panel a network."""
    import altair as alt

    panels = []
    for case in cases.values():
        values = [
            {"who": who, "us": row["median"], "low": row["q1"], "high": row["q3"], "kind": _kind(who)}
            for who, row in case["rows"].items()
        ]
        # Layers drop a sort by a field; a list they keep.
        values.sort(key=lambda value: value["us"])
        y = alt.Y("who:N", sort=[value["who"] for value in values], title=None)
        base = alt.Chart({"values": values}).encode(y=y)
        colour = alt.Color(
            "kind:N",
            legend=alt.Legend(title=None, orient="top", labelFontSize=12, labelLimit=300),
            scale=alt.Scale(domain=_KINDS, range=["#0072B2", "#999999", "#E69F00"]),
        )
        bars = base.mark_bar().encode(x=alt.X("us:Q", title="µs a step, median and quartiles"), color=colour)
        spread = base.mark_rule(color="#333").encode(x="low:Q", x2="high:Q")
        panels.append((bars + spread).properties(width=330, height=170, title=short(case["what"])))
    return (
        alt.concat(*panels, columns=2, spacing=24)
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
    )


def _kind(who: str) -> str:
    return _KINDS[0 if who in OURS else 1 if who == "floor" else 2]


def pages(root: Path, results: Newest, folder: Path = FOLDER) -> dict[Path, str]:
    """Return what the pages must be."""
    texts = slots(results) | gpu_slots(folder)
    there = [root / name for name in (PAGE, README, GPU, CLUSTERS) if (root / name).exists()]
    return {path: fill(path.read_text(encoding="utf-8"), texts) for path in there}


def main(arguments: Sequence[str]) -> int:
    """Write the pages and the figure, or check them."""
    parser = argparse.ArgumentParser(prog="python -m bench page", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if anything would change")
    parser.add_argument("--results", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    results = newest(options.results)
    wanted = pages(options.root, results, options.results)
    stale = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path}: {'is not up to date' if options.check else 'written'}")
    if options.check:
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    if "epoch" in results:
        from xpnet.report.curves_chart import save_figure

        stem = options.root / FIGURE
        stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".svg"):
            stem.with_suffix(suffix).unlink(missing_ok=True)
        for path in save_figure(chart(results["epoch"][1]["suites"]["epoch"]["cases"]), stem):
            print(f"{path}: written")
    return 0
