"""``docs/learning.md``, its chart, and the figures of ``xpnet recipes``, from the newest ladder."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bench.learn import ensemble, published
from bench.learn.ladder import WAYS
from bench.learn.steps import SHARE, TIMES, ratios
from bench.results import FOLDER, newest
from xpnet.report.theme import mean_and_std

PAGE, FIGURE = Path("docs/learning.md"), Path("docs/images/learning")
REACHED = Path("xpnet/config/recipes_reached.toml")
_EMPTY = "Not measured yet."


def page(results: dict[str, tuple[Path, dict[str, Any]]]) -> str:
    """Return the page for the newest results, by suite."""
    head, run = Path(__file__).with_name("learning.md").read_text(encoding="utf-8").split("<!-- measured -->\n\n")
    parts = [head, "## The ladder\n\n"]
    parts.append(_ladder(results, "learn", f"![Accuracy against seconds]({FIGURE.relative_to('docs')}.png)"))
    if "learn-gpu" in results:
        parts += ["## On a GPU\n\n", _ladder(results, "learn-gpu", "")]
    parts += _as_long_as_it_takes(results)
    parts += [
        "## The training step alone\n\n",
        _steps(results),
        f"{run}\n",
        published.others(results),
        published.tried(),
    ]
    return "".join(parts)


def _ladder(results: dict[str, tuple[Path, dict[str, Any]]], name: str, figure: str) -> str:
    if name not in results:
        return f"{_EMPTY}\n\n"
    path, result = results[name]
    suite = result["suites"][name]
    header = ["recipe", "target", "network", "k", "shift", "batch", "epochs", "TFLOP", "one view, %", "six views, %"]
    header += ["s: median [min, max]", "PyTorch, s", "ratio"]
    rows = [_row(rung, case) for rung, case in suite["cases"].items() if "xpnet" in case["rows"]]
    seeds = sorted({len(case["rows"]["xpnet"]["runs"]) for case in suite["cases"].values() if "xpnet" in case["rows"]})
    count = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
    words = (
        f"Accuracies are means ± standard deviations over {count}; a rung in bold is reached. "
        "PyTorch's seconds are the median of the faster of its ways that were measured, with its accuracy for "
        "one view; the ratio is that of the medians of the trainings that took turns.\n\n"
    )
    shown = f"{figure}\n\n" if figure else ""
    return published.table(header, rows) + words + shown + _source(path, result, suite)


def _as_long_as_it_takes(results: dict[str, tuple[Path, dict[str, Any]]]) -> list[str]:
    """Return the section about the ensemble, if one was measured."""
    if ensemble.NAME not in results or "learn" not in results:
        return []
    path, result = results[ensemble.NAME]
    suite = result["suites"][ensemble.NAME]
    text = ensemble.section(suite, results["learn"][1]["suites"]["learn"]["cases"], *published.members())
    return ["## As long as it takes\n\n", text, _source(path, result, suite)]


def _row(rung: str, case: dict[str, Any]) -> list[str]:
    ours, settings = case["rows"]["xpnet"], case["settings"]
    reached = ours["accuracy"] >= case["target"]
    name = f"**{rung}**" if reached else rung
    cells = [name, f"{100 * case['target']:.0f} %", settings["hidden"].replace(",", "-")]
    cells += [f"{settings[key]:g}" for key in ("pca", "shift", "batch_size", "epochs")]
    cells += [f"{case['tflop']:.3g}", _share(ours, "accuracy"), _share(ours, "accuracy_six_views")]
    cells.append(f"{ours['median']:.3g} [{ours['min']:.3g}, {max(ours['values']):.3g}]")
    best = faster_peer(case)
    if best is None:
        return [*cells, "", ""]
    theirs = case["rows"][best]
    mine, other = ({(run["session"], run["seed"]): run["seconds"] for run in row["runs"]} for row in (ours, theirs))
    both = sorted(mine.keys() & other.keys())
    ratio = f"{median(other[turn] for turn in both) / median(mine[turn] for turn in both):.2f}" if both else ""
    way = best.removeprefix("PyTorch")
    cells.append(f"{theirs['median']:.3g}{way and ','}{way} ({_share(theirs, 'accuracy')} %)")
    return [*cells, ratio]


def faster_peer(case: dict[str, Any]) -> str | None:
    """Return the name of the faster of PyTorch's ways, or None."""
    theirs = {name: row["median"] for name, row in case["rows"].items() if name.startswith("PyTorch")}
    return min(theirs, key=lambda name: theirs[name]) if theirs else None


def _share(row: dict[str, Any], key: str) -> str:
    mean, std = mean_and_std([100 * run[key] for run in row["runs"]]) or (float("nan"), None)
    return f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")


def _source(path: Path, result: dict[str, Any], suite: dict[str, Any]) -> str:
    """Return where the figures of a suite were measured: machine, versions, threads, commits and speed."""
    machine, packages = result["machine"], dict(result["machine"]["packages"])
    numbers = {suite["session"]} if "session" in suite else set()
    for case in suite["cases"].values():
        for row in case["rows"].values():
            numbers |= {run["session"] for run in row.get("runs", ())}
            packages |= row.get("versions", {})
            for run in row.get("runs", ()):
                packages |= run.get("versions", {})
    blas = [
        f"OpenBLAS {pool.get('version')} ({pool.get('architecture')}), {pool.get('num_threads')} threads"
        for pool in machine["pools"]
        if pool.get("internal_api") == "openblas"
    ]
    sessions = [result["sessions"][number] for number in sorted(numbers)]
    commits = list(dict.fromkeys(str(one["commit"]) for one in sessions))
    speeds = [one[key]["gemm_gflops"] for one in sessions for key in ("probe_before", "probe_after") if key in one]
    days = list(dict.fromkeys(one["date"] for one in sessions))
    settings = "".join(f", {name}={value}" for name, value in machine["environment"].items())
    shown = ", ".join([*(f"{name} {version}" for name, version in packages.items()), *blas]) + settings
    return (
        f"`{sessions[0]['command']}`, {' to '.join(dict.fromkeys((days[0], days[-1])))}, commit {', '.join(commits)}: "
        f"{machine['cores']} cores of an {machine['processor']}, which gave {min(speeds):.0f} to "
        f"{max(speeds):.0f} GFLOP/s before and after; {machine['system']}, Python {machine['python']}, {shown} "
        f"([all values](../bench/results/{path.name})).\n\n"
    )


def _steps(results: dict[str, tuple[Path, dict[str, Any]]]) -> str:
    about = (
        "Augmented pictures, gathered, pooled, projected, forward, backward, and Nesterov's update. All contenders get "
        "the same batches, views and initial weights, in turn. *xpnet* multiplies in bfloat16, as these recipes say, "
        "*PyTorch bfloat16* by autocast. *Products* are the matrix products of the step alone, by NumPy.\n\n"
    )
    if "learn-steps" not in results:
        return f"{about}{_EMPTY}\n\n"
    path, result = results["learn-steps"]
    cases = result["suites"]["learn-steps"]["cases"]
    who = list(dict.fromkeys(name for case in cases.values() for name in case["rows"]))
    rows = []
    for name in who:
        found = [case["rows"].get(name) for case in cases.values()]
        cells = ["" if r is None else f"{r['median']:,.0f} [{r['q1']:,.0f}, {r['q3']:,.0f}]" for r in found]
        rows.append([f"**{name}**" if name.startswith("xpnet") else name, *cells])
    both = [ratios(case) for case in cases.values()]
    if any(times is not None for times, _ in both):
        bars = ["" if t is None else f"{t:.2f}" for t, _ in both]
        rows.append([f"times as fast as the faster PyTorch (bar: {TIMES})", *bars])
    rows.append(
        [
            f"products / xpnet in float32 (bar: {100 * SHARE:.0f} %)",
            *("" if s is None else f"{100 * s:.0f} %" for _, s in both),
        ]
    )
    header = ["µs a step: median [quartiles]", *(case["what"] for case in cases.values())]
    return about + published.table(header, rows) + _source(path, result, result["suites"]["learn-steps"])


def reached(results: dict[str, tuple[Path, dict[str, Any]]]) -> str:
    """Return the content of ``recipes_reached.toml``: what ``xpnet recipes`` tells of the rungs that were measured."""
    lines = ["# What the recipes reach on CIFAR-10; written by `python -m bench learn --page` from bench/results."]
    if "learn" in results:
        _, result = results["learn"]
        machine = result["machine"]
        for rung, case in result["suites"]["learn"]["cases"].items():
            if (row := case["rows"].get("xpnet")) is None:
                continue
            day = max(result["sessions"][run["session"]]["date"] for run in row["runs"])
            where = f"{machine['cores']} cores of an {machine['processor']}, {day}"
            lines += ["", f"[{rung}]", f"accuracy = {row['accuracy']:.4f}"]
            lines += [f"accuracy_six_views = {row['accuracy_six_views']:.4f}", f"seconds = {row['median']:.4g}"]
            lines += [f"tflop = {case['tflop']:.4g}", f"seeds = {len(row['runs'])}", f'where = "{where}"']
    return "\n".join(lines) + "\n"


def chart(cases: dict[str, Any]) -> Any:
    """Return test accuracy against seconds, a point for each seed, and lines through the medians."""
    import altair as alt

    from xpnet.report.theme import COLOURS, log_axis, titled

    names = [name for name in WAYS if any(name in c["rows"] for c in cases.values())]
    points, lines = [], []
    for case in cases.values():
        for name, row in case["rows"].items():
            points += [{"s": name, "x": run["seconds"], "y": run["accuracy"]} for run in row["runs"]]
            lines.append({"s": name, "x": row["median"], "y": row["accuracy"]})
    seconds = [point["x"] for point in points]
    x = alt.X("x:Q", title="seconds of transforms and training", scale=alt.Scale(type="log", nice=False, padding=10))
    x = x.axis(grid=True, **log_axis(min(seconds), max(seconds)))
    y = alt.Y(
        "y:Q", title="test accuracy, one view", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False, padding=10)
    )
    colour = alt.Color(
        "s:N",
        scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)])),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1),
    )
    line = alt.Chart({"values": lines}).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, order="x:Q")
    dots = alt.Chart({"values": points}).mark_circle(size=34, opacity=0.7).encode(x=x, y=y, color=colour)
    labels = [
        {"x": case["rows"]["xpnet"]["median"], "y": case["rows"]["xpnet"]["accuracy"], "t": rung}
        for rung, case in cases.items()
        if "xpnet" in case["rows"]
    ]
    text = alt.Chart({"values": labels}).mark_text(dx=-8, dy=-9, align="right", fontSize=11, color="#444")
    both = (line + dots + text.encode(x=x, y=y, text="t:N")).properties(width=520, height=320)
    return titled(both, "Seconds to a test accuracy on CIFAR-10", labelFontSize=12)


def write_pages(root: Path, folder: Path = FOLDER, *, check: bool = False) -> int:
    """Write the page, the chart and the recipes' figures, or check the two texts; return the exit code."""
    results = newest(folder)
    stale = [root / path for path, text in wanted(results).items() if _content(root / path) != text]
    for path in stale:
        print(f"{path}: {'is not up to date' if check else 'written'}")
    if check:
        return 1 if stale else 0
    for path, text in wanted(results).items():
        if root / path in stale:
            (root / path).write_text(text, encoding="utf-8")
    if "learn" in results:
        from xpnet.report.curves_chart import save_figure

        stem = root / FIGURE
        stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".svg"):
            stem.with_suffix(suffix).unlink(missing_ok=True)
        for path in save_figure(chart(results["learn"][1]["suites"]["learn"]["cases"]), stem):
            print(f"{path}: written")
    return 0


def wanted(results: dict[str, tuple[Path, dict[str, Any]]]) -> dict[Path, str]:
    """Return what the generated files must be, by their paths in the checkout."""
    return {PAGE: page(results), REACHED: reached(results)}


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
