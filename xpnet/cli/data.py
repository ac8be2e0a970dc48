"""``xpnet data``: ``fetch`` and ``info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter

from xpnet.cli.console import Output, safe
from xpnet.cli.options import DATA, FLAG, OUTPUT, Debug, Json, Quiet, given, refuse_taken, settings_options

if TYPE_CHECKING:
    InfoOptions: TypeAlias = Any
else:
    InfoOptions = settings_options(*(name for name in DATA if name not in ("data", "split", "in_memory")))

_FETCH = Group("Fetching", sort_key=1)


def fetch(
    name: Annotated[Literal["cifar10", "cifar100"], Parameter(help="Which data set.")] = "cifar10",
    /,
    *,
    layout: Annotated[
        Literal["python", "binary", "matlab"],
        Parameter(
            group=_FETCH,
            metavar="python|binary|matlab",
            show_choices=False,
            help="Which of the published archives; of cifar100, python alone.",
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
    force: Annotated[
        bool, Parameter(group=_FETCH, **FLAG, help="Fetch it although it is there, and replace it.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Fetch a published data set, check it, and unpack it where xpnet finds it.

    It goes to xpnet's cache folder, or to the folder that XPNET_DATA names. What was cut off or is not the published
    archive is not kept.
    """
    from xpnet.data.download import fetch as fetch_archive

    output = Output(as_json=json, quiet=quiet)
    with _Bar(shown=output.show_progress) as bar:
        fetched = fetch_archive(name, layout, source=from_, force=force, progress=bar)
    output.notes(*fetched.notes)
    result = {"data": name, "layout": layout, "folder": str(fetched.folder), "already_there": fetched.already}
    result["notes"] = list(fetched.notes)
    again = "is there already" if fetched.already else "is there now"
    output.result(result, f"{name} {again}: {fetched.folder}\ntrain with it: xpnet train --data {fetched.folder}")


def info(
    data: Annotated[
        str | None, Parameter(help="A name or a path. [default: cifar10 if it is found, else patterns]")
    ] = None,
    /,
    options: Annotated[InfoOptions | None, Parameter(name="*")] = None,
    *,
    figure: Annotated[
        Path | None,
        Parameter(group=OUTPUT, metavar="STEM", help="Write samples of every class to STEM.png and STEM.svg."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Show what a data set is: shapes, classes with counts, value ranges, duplicates, constant features."""
    from xpnet.config.settings import Settings
    from xpnet.data import read_raw
    from xpnet.data.describe import describe_raw

    output = Output(as_json=json, quiet=quiet)
    refuse_taken(figure)
    settings = Settings.from_mapping(({} if options is None else given(options)) | ({"data": data} if data else {}))
    source = read_raw(settings.data)
    output.notes(*source.notes)
    about = describe_raw(source)
    shown: list[Any] = [_facts(about), _classes(about)]
    if about["left_out"]:
        shown.append("left out:\n" + "\n".join(f"  {name}" for name in about["left_out"]))
    if figure is not None:
        from xpnet.report.curves_chart import save_figure
        from xpnet.report.samples_chart import samples_figure

        title = f"{source.name}: {len(source.labels):,} samples of {len(source.class_names)} classes"
        paths = save_figure(samples_figure(source, title), figure)
        about["figure"] = [str(path) for path in paths]
        shown.append(f"figure: {paths[0]}, {paths[1]}")
    output.result(about, *shown)


def _facts(about: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    shape = about["image_shape"]
    features = f"{about['features']:,}"
    if shape is not None:
        features += (
            f" (images of {shape[1]} x {shape[2]} pixels, {shape[0]} {'channel' if shape[0] == 1 else 'channels'})"
        )
    samples = ", ".join(f"{count:,} {name}" for name, count in about["samples"].items())
    constant, duplicates = about["constant_features"], about["duplicates"]
    first = ", ".join(map(str, constant["first"][:8])) + (", ..." if constant["count"] > 8 else "")
    facts = {
        "data": f"{about['name']} ({about['what']})",
        "from": about["location"],
        "samples": f"{samples} ({about['test_set']})",
        "features": features,
        "kept as": f"{about['dtype']}, {about['bytes'] / 2**20:,.1f} MiB",
        "default split": about["default_split"],
        **{
            f"values, {name}": f"{v['min']:g} to {v['max']:g}, mean {v['mean']:.4g}"
            for name, v in about["values"].items()
        },
        "constant features": f"{constant['count']:,}" + (f" ({first})" if constant["count"] else ""),
        **{f"duplicates, {name}": f"{count:,}" for name, count in duplicates.items()},
    }
    for name, value in facts.items():
        table.add_row(name, safe(str(value)))
    return table


def _classes(about: dict[str, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in about["samples"]:
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(about["classes"]):
        table.add_row(safe(f"{number} {row['class']}"), *(f"{row[name]:,}" for name in about["samples"]))
    return table


class _Bar:
    """Bytes that have come, on standard error."""

    def __init__(self, *, shown: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=None, unit="B", unit_scale=True, unit_divisor=1024, disable=not shown)

    def __call__(self, done: int, total: int | None) -> None:
        self._bar.total = total
        self._bar.n = done  # less than before where an attempt has begun anew
        self._bar.refresh() if done == total else self._bar.update(0)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
