"""``xpnet data``: ``fetch`` and ``info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from xpnet.cli.console import STANDARD, Output, safe
from xpnet.cli.options import DATA, FLAG, OUTPUT, given, refuse_taken, with_settings
from xpnet.cli.tables import facts, table
from xpnet.utils.plural import counted

# Columns of a table that are listed; with --json, all of them are.
_MOST_COLUMNS = 100
_FETCH = Group("Fetching", sort_key=1)


def fetch(
    name: Annotated[Literal["cifar10", "cifar100"], Parameter(help="Which data set.", show_choices=True)] = "cifar10",
    /,
    *,
    layout: Annotated[
        Literal["python", "binary", "matlab"],
        Parameter(
            group=_FETCH,
            metavar="python|binary|matlab",
            help="Which of the published archives; cifar100 has python alone.",
        ),
    ] = "python",
    from_: Annotated[
        str | None,
        Parameter(
            name="--from",
            group=_FETCH,
            metavar="FILE|URL",
            help="A file that you have, or the URL of a mirror. [default: where it is published]",
        ),
    ] = None,
    force: Annotated[bool, Parameter(group=_FETCH, **FLAG, help="Fetch it again and replace what is there.")] = False,
    output: Output = STANDARD,
) -> None:
    """Fetch a published data set, check it, and unpack it where xpnet finds it.

    It goes to xpnet's cache folder, or to the folder that XPNET_DATA names. An archive that is incomplete or is
    not the published one is not kept.
    """
    from xpnet.data.download import fetch as fetch_archive

    with output.progress_bar(unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total, bar.n = total, done  # a new attempt begins at 0 again
            bar.refresh() if done == total else bar.update(0)

        fetched = fetch_archive(name, layout, source=from_, force=force, progress=show)
    output.notes(*fetched.notes)
    result = {"data": name, "layout": layout, "folder": str(fetched.folder), "already_there": fetched.already}
    result["notes"] = list(fetched.notes)
    when = "already" if fetched.already else "now"
    output.result(
        result, f"{name} is there {when}: {fetched.folder}\ntrain with it: xpnet train --data {fetched.folder}"
    )


@with_settings(*(name for name in DATA if name not in ("data", "split", "in_memory")))
def info(
    data: Annotated[
        str | None, Parameter(help="A name or a path. [default: cifar10 if it is found, else patterns]")
    ] = None,
    /,
    options: Any = None,
    *,
    figure: Annotated[
        Path | None,
        Parameter(group=OUTPUT, metavar="STEM", help="Write samples of every class to STEM.png and STEM.svg."),
    ] = None,
    output: Output = STANDARD,
) -> None:
    """Describe a data set: shapes, classes with counts, value ranges, duplicates, constant features.

    Of a table it says what each column is, and what becomes of it.
    """
    from xpnet.config.settings import Settings
    from xpnet.data.describe import describe_raw
    from xpnet.data.describe_columns import describe_columns
    from xpnet.data.load import read_any

    refuse_taken(figure)
    settings = Settings.from_mapping(given(options) | ({"data": data} if data else {}))
    source = read_any(settings.data)
    output.notes(*source.notes)
    result = describe_raw(source) | {"columns": describe_columns(source, settings.data)}
    counts = [
        [safe(f"{number} {row['class']}"), *(f"{row[name]:,}" for name in result["samples"])]
        for number, row in enumerate(result["classes"])
    ]
    shown: list[Any] = [facts(_facts(result)), table(["class", *result["samples"]], counts, left=("class",))]
    shown += _columns(result["columns"])
    if result["left_out"]:
        shown.append("left out:\n" + "\n".join(f"  {name}" for name in result["left_out"]))
    if figure is not None:
        from xpnet.report.curves_chart import save_figure
        from xpnet.report.samples_chart import samples_figure

        title = f"{source.name}: {len(source.labels):,} samples of {len(source.class_names)} classes"
        paths = save_figure(samples_figure(source, title), figure)
        result["figure"] = [str(path) for path in paths]
        shown.append(f"figure: {paths[0]}, {paths[1]}")
    output.result(result, *shown)


def _columns(columns: list[dict[str, Any]]) -> list[Any]:
    """Return the table of a table's columns, unless all of them are numbers that are standardised."""
    if all(row["kind"] == "number" and row["becomes"] == "1 input: standardised" for row in columns):
        return []
    rows = [
        [
            safe(row["column"]),
            f"{row['categories']:,} categories" if row["categories"] is not None else f"{row['kind']}s",
            f"{row['missing']:,}",
            safe(row["becomes"]),
        ]
        for row in columns[:_MOST_COLUMNS]
    ]
    more = [] if len(columns) <= _MOST_COLUMNS else [f"and {len(columns) - _MOST_COLUMNS:,} more columns"]
    return [table(["column", "kind", "missing", "becomes"], rows, left=("column", "kind", "becomes")), *more]


def _facts(found: dict[str, Any]) -> list[tuple[str, Any]]:
    features = f"{found['features']:,}"
    if found["image_shape"] is not None:
        channels, height, width = found["image_shape"]
        features += f" (images of {height} x {width} pixels, {counted(channels, 'channel')})"
    samples = ", ".join(f"{count:,} {name}" for name, count in found["samples"].items())
    constant = found["constant_features"]
    first = ", ".join(map(str, constant["first"][:8])) + (", ..." if constant["count"] > 8 else "")
    pairs = [
        ("data", f"{found['name']} ({found['what']})"),
        ("from", found["location"]),
        ("samples", f"{samples} ({found['test_set']})"),
        ("features", features),
        ("kept as", f"{found['dtype']}, {found['bytes'] / 2**20:,.1f} MiB"),
        ("default split", found["default_split"]),
        *(
            (f"values, {name}", f"{v['min']:g} to {v['max']:g}, mean {v['mean']:.4g}")
            for name, v in found["values"].items()
        ),
        ("constant features", f"{constant['count']:,}" + (f" ({first})" if constant["count"] else "")),
        *((f"duplicates, {name}", f"{count:,}") for name, count in found["duplicates"].items()),
    ]
    return [(name, safe(str(value))) for name, value in pairs]
