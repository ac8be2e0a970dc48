"""The folds of ``xpnet train --cv``, which are trained before the network of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnet.cli.console import Output, finish_on_interrupt
from xpnet.errors import RunError
from xpnet.runs.experiment import Experiment
from xpnet.runs.folder import CROSS_VALIDATION, write_cross_validation
from xpnet.runs.records import read_cross_validation
from xpnet.runs.resume import differences
from xpnet.training.callback import Callback, TrainPlan
from xpnet.tuning.cross_validation import CrossValidation, cross_validate
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class FoldBar(Callback):
    """Shows one progress bar for the steps of all folds.

    Args:
        shown: Whether the bar is shown.
    """

    def __init__(self, *, shown: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=0, unit="step", desc="folds", disable=not shown, dynamic_ncols=True)

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Add the steps of the folds that train next."""
        self._bar.total += len(plan.chunks) * plan.length.steps
        self._bar.refresh()

    def on_steps(self, steps: int) -> None:
        """Move the bar."""
        self._bar.update(steps)

    def __enter__(self) -> FoldBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def cross_validation(experiment: Experiment, folder: Path, output: Output) -> CrossValidation | int | None:
    """Cross-validate a run's settings on its training set, and keep the figures in its folder.

    Figures of the same settings and data that the folder has already are used again.

    Returns:
        The figures; None if the run has no `cv`; the exit code if a signal stops it.

    Raises:
        RunError: The figures cannot be written, or those in the folder cannot be read.
    """
    from xpnet.cli.progress import ChunkNotes, StopOnInterrupt

    run = experiment.settings.run
    if run.cv is None:
        return None
    about = {"settings": experiment.config, "data": experiment.fingerprint}
    if (known := _kept(folder, about)) is not None:
        return known
    networks = counted(run.cv * len(experiment.population), "network")
    output.note(f"cross-validation: {run.cv} folds of the training set, {networks}")
    stopping = "stopping after this step; press Ctrl-C again to leave at once"
    with finish_on_interrupt(output, stopping) as interrupt, FoldBar(shown=output.show_progress) as bar:
        found = cross_validate(
            experiment.population,
            experiment.data,
            run.cv,
            stratify=run.stratify,
            config=experiment.settings.data,
            backend=experiment.backend,
            dtype=run.dtype,
            max_replicas=run.max_replicas,
            callbacks=[bar, ChunkNotes(output.note, run.cv * len(experiment.population)), StopOnInterrupt(interrupt)],
        )
    if found.interrupted:
        output.result({"interrupted": True, "run": str(folder)}, f"run folder: {folder}")
        output.note(f"cross-validation was not finished; go on with: xpnet train --resume {folder}")
        return interrupt.exit_code
    if diverged := int(np.isnan(found.losses).sum()):
        output.note(f"warning: {diverged} of the {networks} of the folds diverged, and do not count")
    write_cross_validation(folder, about | _figures(found))
    return found


def _figures(found: CrossValidation) -> dict[str, Any]:
    values = {"accuracies": found.accuracies, "losses": found.losses}
    lists = {name: [[v if np.isfinite(v) else None for v in row] for row in a.tolist()] for name, a in values.items()}
    return lists | {"seconds": found.seconds}


def _kept(folder: Path, about: Mapping[str, Any]) -> CrossValidation | None:
    """Return the figures that a folder has of the same settings and data; None if it has none."""
    path = folder / CROSS_VALIDATION
    if not path.is_file():
        return None
    kept = read_cross_validation(path)
    if any(differences(kept[name], about[name]) for name in ("settings", "data")):
        return None
    accuracies, losses = (np.array(kept[name], dtype=float) for name in ("accuracies", "losses"))
    networks, folds = accuracies.shape if accuracies.ndim == 2 else (0, 0)
    if losses.shape != accuracies.shape or folds != about["settings"]["cv"] or not networks:
        raise RunError(f"{path}: has figures of other folds than its settings; delete it")
    return CrossValidation(accuracies, losses, float(kept["seconds"]), interrupted=False)
