"""``xpnet lr-range``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from xpnet.cli.completion import run_folders
from xpnet.cli.console import STANDARD, Output, finish_on_interrupt
from xpnet.cli.figures import drawer, write_figures
from xpnet.cli.options import DATA, OUTPUT, number, read_settings, with_settings
from xpnet.config.settings import CONFIG, Settings
from xpnet.config.training import TrainConfig
from xpnet.errors import ConfigError
from xpnet.runs.experiment import about_data, describe, resolved
from xpnet.runs.folder import create_run_folder, write_config
from xpnet.utils.atomic_files import write_new

if TYPE_CHECKING:
    from xpnet.analysis.lr_suggestion import LRRange
    from xpnet.backend import Backend
    from xpnet.data import Dataset

_TEST = Group("Range test", sort_key=0)
TABLE = "lr_range.csv"


# Without the settings of rates and schedules: the test suggests the rates.
@with_settings(
    *(*DATA, "hidden", "batch_norm", "activation", "bn_alpha", "bn_eps", "bias_before_bn", "init", "init_bias"),
    *("lambda", "batch_size", "drop_last", "n_s", "cycles", "epochs"),
    *(
        "optimiser",
        "momentum",
        "nesterov",
        "beta1",
        "beta2",
        "adam_eps",
        "weight_decay",
        "lr_first",
        "lr_bn",
        "decay_bn",
    ),
    *("label_smoothing", "class_weight", "dropout", "input_dropout", "flip", "shift", "border", "cutout"),
    *("shuffle_seed", "shuffle", "bf16", "stepper", "seed", "runs", "dtype", "figures", "device", "tf32"),
    help={
        "n_s": "Of the training that is suggested: half a cycle, in steps, or in epochs as 5ep. [default: 5ep]",
        "cycles": "Of the training that is suggested: its length in cycles. [default: 2]",
        "epochs": "Of the training that is suggested: its length in epochs, instead of cycles.",
    },
)
def lr_range(
    options: Any = None,
    *,
    from_: Annotated[float, number(_TEST, "X", "The first learning rate.", "--from")] = 1e-6,
    to: Annotated[float, number(_TEST, "X", "The last learning rate.")] = 10.0,
    steps: Annotated[
        int | None, number(_TEST, "N", "Steps between them. [default: an epoch or 500, whichever is larger]")
    ] = None,
    spacing: Annotated[str, Parameter(group=_TEST, metavar="log|linear", help="How the rate rises.")] = "log",
    config: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            completer=run_folders,
            help="Settings from a TOML file or a run folder; its learning rates are not used.",
        ),
    ] = None,
    out: Annotated[
        Path | None, Parameter(group=OUTPUT, help="New folder of the test. [default: runs/lr-range-TIME]")
    ] = None,
    output: Output = STANDARD,
) -> None:
    """Suggest --eta-min and --eta-max: train a network with a learning rate that rises from step to step.

    It is the learning rate range test of Smith (2017). --n-s, --cycles and --epochs do not change the test: they are
    written beside the rates, for the training that follows.
    """
    from xpnet.analysis.lr_range import check_range
    from xpnet.analysis.lr_range import lr_range as test_rates
    from xpnet.cli.progress import StepBar, StopOnInterrupt

    settings = _settings(options, config)
    # Everything is checked before the folder is made.
    check_range(from_, to, steps, spacing)
    with drawer(settings.run.figures, output) as draws:
        backend, data = _load(settings, output)
        written, title = resolved(settings, data), describe(settings, data)
        folder = create_run_folder(out, prefix="lr-range-")
        output.note(f"range test: {title}; folder {folder}")
        with (
            finish_on_interrupt(output, "stopping; press Ctrl-C again to leave at once") as interrupt,
            output.progress_bar(unit="step") as bar,
        ):
            test = test_rates(
                settings.network_config(data.inputs, data.classes),
                data,
                settings.train,
                from_=from_,
                to=to,
                steps=steps,
                spacing=spacing,
                seeds=_seeds(settings),
                backend=backend,
                dtype=settings.run.dtype,
                callbacks=[StepBar(bar), StopOnInterrupt(interrupt)],
            )
        _write(folder, test, written)
        if draws.kinds:
            write_figures(draws.draw("lr_range", test, title), folder, output)
    output.result(test.to_json() | {"folder": str(folder)}, title, _summary(test, folder))
    if test.interrupted:
        sys.exit(interrupt.exit_code)


def _load(settings: Settings, output: Output) -> tuple[Backend, Dataset]:
    """Return the device and the data, which must fit the network."""
    from xpnet.backend import get_backend
    from xpnet.data import load_data
    from xpnet.nn.network import Network
    from xpnet.training.validate import check_fit

    backend = get_backend(settings.run.device, tf32=settings.run.tf32)
    output.device(backend)
    data = load_data(settings.data)
    output.note(about_data(data, settings))
    network = settings.network_config(data.inputs, data.classes)
    check_fit(Network(network, dtype=settings.run.dtype, seed=_seeds(settings)[:1]), data, settings.train)
    return backend, data


def _seeds(settings: Settings) -> list[int]:
    return [row["seed"] for row in settings.replicas()]


def _settings(options: Any, config: Path | None) -> Settings:
    """Return settings with the triangular schedule, for which the test suggests rates."""
    settings = read_settings(options, config)
    for name in ("eta_min", "eta_max", "eta"):
        if name in settings.varying:
            raise ConfigError(f"{name} = {list(settings.varying[name])}: the test finds the rates; leave {name} out")
    settings = settings.single("xpnet lr-range")
    if settings.train.schedule == "triangular":
        return settings
    default = TrainConfig()
    rates = {name: getattr(default, name) for name in ("schedule", "eta_min", "eta_max", "eta", "decay")}
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **rates))


def _write(folder: Path, test: LRRange, settings: dict[str, Any]) -> None:
    """Write the curves as a table and, if rates are suggested, the settings with these rates."""
    write_new(folder / TABLE, test.to_csv().encode())
    if test.suggestion is not None:
        rates = {"eta_min": test.suggestion.eta_min, "eta_max": test.suggestion.eta_max}
        write_config(folder, settings | rates)


def _summary(test: LRRange, folder: Path) -> str:
    lines = [f"{len(test.rates)} of {test.asked} steps on {test.device} in {test.seconds:.1f} s"]
    lines += [] if test.ended is None else [f"ended early: {test.ended}"]
    found = test.suggestion
    if found is None:
        lines.append(f"no suggestion: {test.no_suggestion}")
    else:
        pairs = [("loss lowest at", found.lowest), ("accuracy falls after", found.accuracy_falls)]
        pairs.append(("loss rises after", found.loss_rises))
        lines.append(", ".join(f"{words} {'-' if rate is None else f'{rate:.2g}'}" for words, rate in pairs))
        if len(test.each) > 1:
            lines.append(_spread(test))
        lines += [] if found.note is None else [f"note: {found.note}"]
        lines += ["", f"--eta-min {found.eta_min:g} --eta-max {found.eta_max:g}", ""]
        lines += [f"eta_min = {found.eta_min!r}", f"eta_max = {found.eta_max!r}", ""]
        lines.append(f"train with these: xpnet train --config {folder / CONFIG}")
    return "\n".join([*lines, f"folder: {folder}"])


def _spread(test: LRRange) -> str:
    """Return the range of the suggestions of the single networks."""
    alone = [one for one in test.each if one is not None]
    if not alone:
        return f"none of the {len(test.each)} networks has a suggestion by itself"
    low, high = [one.eta_min for one in alone], [one.eta_max for one in alone]
    return (
        f"{len(alone)} of {len(test.each)} networks by themselves: eta_min {min(low):g} to {max(low):g}, "
        f"eta_max {min(high):g} to {max(high):g}"
    )
