"""``xpnet gradcheck``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Group, Parameter
from rich.table import Table

from xpnet.cli.console import STANDARD, Output, finish_on_interrupt
from xpnet.cli.options import DATA, FLAG, OUTPUT, given, number, refuse_taken, with_settings
from xpnet.cli.tables import table
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    from xpnet.analysis.gradcheck import GradcheckReport, TensorReport
    from xpnet.data import Dataset
    from xpnet.nn.network import Network

_CHECK = Group("Check", sort_key=3)


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class Check:
    """What is checked, and how."""

    features: Annotated[int | None, number(_CHECK, "K", "Use only the first K features. [default: all]")] = None
    samples: Annotated[int, number(_CHECK, "N", "Samples of the training set.")] = 100
    choose: Annotated[
        Literal["first", "random"], Parameter(group=_CHECK, metavar="first|random", help="Which samples.")
    ] = "first"
    coverage: Annotated[
        str | None,
        number(
            _CHECK,
            "all|FRACTION|COUNT",
            "Which parameters; a random direction of all is always checked. "
            "[default: all of up to 2 million, else 10000]",
        ),
    ] = None
    h: Annotated[float, number(_CHECK, "X", "Step of the differences.")] = 6e-6
    eps: Annotated[float, number(_CHECK, "X", "Smallest |analytic| + |numerical|.")] = 1e-6
    tolerance: Annotated[
        float | None, number(_CHECK, "X", "Largest relative error that passes. [default: 1e-5, for float32 1e-2]")
    ] = None
    dtype: Annotated[
        Literal["float64", "float32"],
        Parameter(group=_CHECK, metavar="float64|float32", help="Precision of the gradients that are checked."),
    ] = "float64"
    naive: Annotated[
        bool, Parameter(group=_CHECK, **FLAG, help="Complete forward passes for each parameter: slow.")
    ] = False
    sweep_h: Annotated[
        bool, Parameter(group=_CHECK, **FLAG, help="Show the error against h for a sample of parameters.")
    ] = False
    figure: Annotated[
        Path | None, Parameter(group=OUTPUT, metavar="STEM", help="Write figures to STEM.png and STEM.svg.")
    ] = None


_DEFAULTS = Check()


@with_settings(
    *(
        *DATA,
        "hidden",
        "batch_norm",
        "activation",
        "bias_before_bn",
        "init",
        "init_bias",
        "bn_eps",
        "lambda",
        "label_smoothing",
        "dropout",
        "input_dropout",
        "class_weight",
        "seed",
        "device",
    ),
    help={"seed": "Seed of the initial weights, and of what is drawn for the check. [default: 0]"},
)
def gradcheck(options: Any = None, *, check: Check = _DEFAULTS, output: Output = STANDARD) -> None:
    """Compare a network's gradients with differences of its cost, parameter by parameter.

    The differences are computed in float64 on the CPU, whatever device computes the gradients.
    The exit code is 0 if they agree and 1 if not.
    """
    from xpnet.analysis.gradcheck import check_network, sweep_h
    from xpnet.analysis.gradcheck.problem import checked_rows, checked_samples, parse_coverage
    from xpnet.data.weights import loss_weights

    settings = Settings.from_mapping(given(options)).single("xpnet gradcheck")
    refuse_taken(check.figure)
    network, data = _network(settings, check, output)
    lam, seed = settings.train.lam, settings.run.seed
    assert isinstance(lam, float)  # of one network
    of_cost: Any = {name: getattr(settings.train, name) for name in ("label_smoothing", "dropout", "input_dropout")}
    x, labels = checked_samples(data, check.samples, check.choose, seed, network)
    weights = loss_weights(data, settings.train.class_weight)
    if weights is not None:
        of_cost["sample_weight"] = weights[checked_rows(data, check.samples, check.choose, seed, network)]
    total = parse_coverage(check.coverage, network.size)
    with (
        finish_on_interrupt(output, "stopping; press Ctrl-C again to leave at once") as interrupt,
        output.progress_bar(total=total, unit="parameter", unit_scale=True) as bar,
    ):
        report = check_network(
            network,
            x,
            labels,
            lam,
            **of_cost,
            coverage=check.coverage,
            h=check.h,
            eps=check.eps,
            tolerance=check.tolerance,
            seed=seed,
            method="naive" if check.naive else "fast",
            progress=bar.update,
            should_stop=interrupt,
        )
    sweep = None
    if check.sweep_h:
        sweep = sweep_h(network, x, labels, lam, **of_cost, eps=check.eps, seed=seed)
    title = f"{network.config.in_words()}, {len(x)} samples of {data.name}, \N{GREEK SMALL LETTER LAMDA} = {lam:g}"
    if check.figure is not None:
        from xpnet.report.curves_chart import save_figure
        from xpnet.report.gradcheck_chart import check_figure

        save_figure(check_figure(report, title, sweep), check.figure)
    result = report.to_json() | ({} if sweep is None else {"sweep": sweep})
    tables = [title, _table(report)] + ([] if sweep is None else ["error against the step h", _sweep_table(sweep)])
    output.result(result, *tables, _summary(report))
    if report.interrupted:
        sys.exit(interrupt.exit_code)
    if not report.passed:
        sys.exit(1)


def _network(settings: Settings, check: Check, output: Output) -> tuple[Network, Dataset]:
    """Return the network that is checked, and the data."""
    from xpnet.backend import get_backend
    from xpnet.data import load_data
    from xpnet.nn.network import Network

    backend = get_backend(settings.run.device)
    output.note(f"gradients: {check.dtype} on {backend.notice}; differences: float64 on cpu")
    data = load_data(settings.data)
    output.notes(f"data: {data.name} from {data.location}, split {data.split}", *data.notes)
    d = data.inputs if check.features is None else check.features
    if not 1 <= d <= data.inputs:
        raise ConfigError(f"features = {d}: must be from 1 to {data.inputs}, which {data.name} has")
    config = settings.network_config(d, data.classes)
    return Network(config, backend=backend, dtype=check.dtype, seed=settings.run.seed), data


def _table(report: GradcheckReport) -> Table:
    kinks = ["kinks"] if report.kinks else []
    rows = []
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
        rows.append((tensor.name, checked, largest, mean, absolute, norm, at, *left_out, verdict))
    heads = ["", "checked", "max rel", "mean rel", "max abs", "norm", "worst at", *kinks, ""]
    return table(heads, rows, rule=False, gap=1)


def _is_zero(tensor: TensorReport) -> bool:
    from xpnet.analysis.gradcheck.report import ZERO

    return tensor.verdict == ZERO


def _summary(report: GradcheckReport) -> str:
    """Return the notes on single tensors, the error along a random direction, and the verdict."""
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


def _sweep_table(rows: list[dict[str, Any]]) -> Table:
    cells = [
        [*(f"{row[key]:.1e}" for key in ("h", "median", "largest", "median_absolute")), f"{100 * row['kinks']:.1f} %"]
        for row in rows
        if row["kind"] == "all"
    ]
    return table(("h", "median rel", "largest rel", "median abs", "probes at kinks"), cells, rule=False, gap=2)
