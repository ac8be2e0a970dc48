"""``xpnet gradcheck``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from cyclopts import Group, Parameter

from xpnet.cli.console import Output, finish_on_interrupt
from xpnet.cli.options import DATA, FLAG, OUTPUT, Debug, Json, Quiet, given, refuse_taken, settings_options
from xpnet.config.definitions import NetworkConfig
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    from xpnet.analysis.gradcheck import GradcheckReport, TensorReport
    from xpnet.data import Dataset
    from xpnet.nn.network import Network

    CheckOptions: TypeAlias = Any
else:
    CheckOptions = settings_options(
        *(*DATA, "hidden", "batch_norm", "bias_before_bn", "init", "init_bias", "bn_eps"),
        *("lambda", "seed", "device"),
        help={"seed": "Seed of the initial weights, and of what is drawn for the check. [default: 0]"},
    )

_CHECK = Group("Check", sort_key=3)
_NUMBER = {"group": _CHECK, "allow_leading_hyphen": True}


def gradcheck(
    options: Annotated[CheckOptions | None, Parameter(name="*")] = None,
    *,
    features: Annotated[
        int | None,
        Parameter(**_NUMBER, metavar="K", show_default=False, help="Use the first K features alone. [default: all]"),
    ] = None,
    samples: Annotated[int, Parameter(**_NUMBER, metavar="N", help="Samples of the training set.")] = 100,
    choose: Annotated[
        Literal["first", "random"],
        Parameter(group=_CHECK, metavar="first|random", show_choices=False, help="Which samples."),
    ] = "first",
    coverage: Annotated[
        str | None,
        Parameter(
            **_NUMBER,
            metavar="all|FRACTION|COUNT",
            help="Which parameters; a random direction of all is always checked. "
            "[default: all of up to 2 million, else 10000]",
            show_default=False,
        ),
    ] = None,
    h: Annotated[float, Parameter(**_NUMBER, metavar="X", help="Step of the differences.")] = 6e-6,
    eps: Annotated[float, Parameter(**_NUMBER, metavar="X", help="Smallest |analytic| + |numerical|.")] = 1e-6,
    tolerance: Annotated[
        float | None,
        Parameter(
            **_NUMBER,
            metavar="X",
            help="Largest relative error that passes. [default: 1e-5, for float32 1e-2]",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        Literal["float64", "float32"],
        Parameter(
            group=_CHECK,
            metavar="float64|float32",
            show_choices=False,
            help="Precision of the gradients that are checked.",
        ),
    ] = "float64",
    naive: Annotated[
        bool,
        Parameter(group=_CHECK, **FLAG, help="Whole forward passes for each parameter: slow."),
    ] = False,
    sweep_h: Annotated[
        bool,
        Parameter(group=_CHECK, **FLAG, help="Show the error against h for a sample of parameters."),
    ] = False,
    figure: Annotated[
        Path | None, Parameter(group=OUTPUT, metavar="STEM", help="Write figures to STEM.png and STEM.svg.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Compare a network's gradients with differences of its cost, parameter by parameter.

    The differences are computed in float64 on the CPU, whatever device computes the gradients.
    The exit code is 0 if they agree and 1 if not.
    """
    from xpnet.analysis.gradcheck import check_network
    from xpnet.analysis.gradcheck import sweep_h as sweep
    from xpnet.analysis.gradcheck.problem import checked_samples

    settings = Settings.from_mapping({} if options is None else given(options)).single("xpnet gradcheck")
    output = Output(as_json=json, quiet=quiet)
    refuse_taken(figure)
    network, data = _network(settings, dtype, features, output)
    lam = settings.train.lam
    if isinstance(lam, tuple):
        raise ConfigError(f"lambda = {list(lam)}: must be one number here")
    x, labels = checked_samples(data, samples, choose, settings.run.seed, network)

    with (
        finish_on_interrupt(output, "stopping; press Ctrl-C again to leave at once") as interrupt,
        _progress_bar(network.size, coverage, shown=output.show_progress) as bar,
    ):
        report = check_network(
            network,
            x,
            labels,
            lam,
            coverage=coverage,
            h=h,
            eps=eps,
            tolerance=tolerance,
            seed=settings.run.seed,
            method="naive" if naive else "fast",
            progress=bar.update,
            should_stop=interrupt,
        )
    swept = sweep(network, x, labels, lam, eps=eps, seed=settings.run.seed) if sweep_h else None
    title = _title(network.config, data, len(x), lam)
    if figure is not None:
        from xpnet.report.curves_chart import save_figure
        from xpnet.report.gradcheck_chart import check_figure

        save_figure(check_figure(report, title, swept), figure)
    result = report.to_json() | ({} if swept is None else {"sweep": swept})
    tables = [title, _table(report)] + ([] if swept is None else ["error against the step h", _sweep_table(swept)])
    output.result(result, *tables, _words(report))
    if report.interrupted:
        sys.exit(interrupt.exit_code)
    if not report.passed:
        sys.exit(1)


def _network(settings: Settings, dtype: str, features: int | None, output: Output) -> tuple[Network, Dataset]:
    """Return the network that is checked, and the data."""
    from xpnet.backend import get_backend
    from xpnet.data import load_data
    from xpnet.nn.network import Network

    backend = get_backend(settings.run.device)
    output.note(f"gradients: {dtype} on {backend.device} ({backend.reason}); differences: float64 on cpu")
    data = load_data(settings.data)
    output.notes(f"data: {data.name} from {data.location}, split {data.split}", *data.notes)
    d = data.features if features is None else features
    if not 1 <= d <= data.features:
        raise ConfigError(f"features = {features}: must be from 1 to {data.features}, which {data.name} has")
    config = settings.network_config(d, data.classes)
    return Network(config, backend=backend, dtype=dtype, seed=settings.run.seed), data


def _progress_bar(size: int, coverage: str | None, *, shown: bool) -> Any:
    from tqdm import tqdm

    from xpnet.analysis.gradcheck.problem import parse_coverage

    total = parse_coverage(coverage, size)
    return tqdm(total=total, unit="parameter", unit_scale=True, disable=not shown, dynamic_ncols=True)


def _title(config: NetworkConfig, data: Dataset, samples: int, lam: float) -> str:
    sizes = "-".join(map(str, (config.inputs, *config.hidden, config.classes)))
    norm = "with BN" if config.batch_norm and config.hidden else "without BN"
    return f"{sizes} {norm}, {samples} samples of {data.name}, \N{GREEK SMALL LETTER LAMDA} = {lam:g}"


def _table(report: GradcheckReport) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    kinks = ["kinks"] if report.kinks else []
    for column in ("", "checked", "max rel", "mean rel", "max abs", "norm", "worst at", *kinks, ""):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for tensor in report.parameters:
        checked = f"{tensor.checked:,}" if tensor.checked == tensor.of else f"{tensor.checked:,}/{tensor.of:,}"
        zero = _is_zero(tensor)
        relative = (tensor.max_relative_error, tensor.mean_relative_error, tensor.norm_error)
        # The relative error of two zeros means nothing.
        largest, mean, norm = (f"{error:.1e}" if tensor.checked and not zero else "" for error in relative)
        absolute = f"{tensor.max_absolute_error:.1e}" if tensor.checked else ""
        at = "" if tensor.at is None or zero else ",".join(map(str, tensor.at))
        left_out = [str(tensor.kinks or "")] if kinks else []
        verdict = "zero" if zero else tensor.verdict
        table.add_row(tensor.name, checked, largest, mean, absolute, norm, at, *left_out, verdict)
    return table


def _is_zero(tensor: TensorReport) -> bool:
    from xpnet.analysis.gradcheck.report import ZERO

    return tensor.verdict == ZERO


def _words(report: GradcheckReport) -> str:
    """Return what there is to say about single tensors, the whole direction, and the verdict."""
    lines = []
    zeros = [tensor for tensor in report.parameters if _is_zero(tensor)]
    if zeros:
        analytic, numerical = (
            max(float(np.max(np.abs(getattr(tensor.entries, side)))) for tensor in zeros)
            for side in ("analytic", "numerical")
        )
        lines.append(
            f"{_names(zeros)}: BN subtracts a bias in front of it again, so its gradient is zero: "
            f"analytic at most {analytic:.1e}, numerical at most {numerical:.1e}"
        )
    notes: dict[str, list[TensorReport]] = {}
    for tensor in report.parameters:
        if tensor.note and not _is_zero(tensor):
            notes.setdefault(tensor.note, []).append(tensor)
    lines += [f"{_names(tensors)}: {note}" for note, tensors in notes.items()]
    direction = f"random direction of all parameters: relative error {report.direction_error:.1e}"
    note = report.direction["note"]
    lines.append(f"{direction} ({note})" if note else direction)
    if report.interrupted:
        lines.append(f"{report.reason} ({report.seconds:.1f} s)")
    else:
        lines.append(f"{'passed' if report.passed else 'FAILED'} in {report.seconds:.1f} s: {report.reason}")
    return "\n".join(lines)


def _names(tensors: list[TensorReport]) -> str:
    return ", ".join(tensor.name for tensor in tensors)


def _sweep_table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("h", "median rel", "largest rel", "median abs", "probes at kinks"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in (row for row in rows if row["kind"] == "all"):
        shown = [f"{row[key]:.1e}" for key in ("h", "median", "largest", "median_absolute")]
        table.add_row(*shown, f"{100 * row['kinks']:.1f} %")
    return table
