"""Resuming a run: the checkpoints from which it continues, and the settings and data that may change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xpnet.config.fields import shown
from xpnet.config.length import Length
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, RunError
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.model_file import MODEL
from xpnet.runs.checkpoints import complete_states, descriptions_in
from xpnet.runs.folder import METRICS, chunk_folder, chunks_in
from xpnet.runs.records import read_metrics
from xpnet.training.population import Population
from xpnet.training.state import Chunk, TrainState, check_compatible
from xpnet.utils.plural import counted

# Settings that may always change: the data's location, the device, what is saved and logged, how the test set is seen.
_FREE = ("data", "device", "save_every", "keep", "figures", "views", "log")
_LACKS_MOMENTS = "{}: cannot be resumed with {}, whose moments it lacks; train a new run from it with --config"
# Settings that determine the batches of an epoch.
_BATCHES = ("batch_size", "drop_last", "shuffle", "shuffle_seed", "seed", "runs", "flip", "shift", "border", "cutout")


@dataclass
class ResumePoint:
    """The point from which a run continues.

    Attributes:
        chunks: The chunks of the population; empty before the first checkpoint.
        starts: The state of each chunk, from the last complete checkpoint that fits the training.
        about: The description of the newest of these checkpoints; empty before the first.
        skipped: Sentences on why later checkpoints cannot be used.
        split: Chunks that are parts of a saved chunk.
        steps: Number of steps of the complete training.
    """

    chunks: list[Chunk] = field(default_factory=list)
    starts: dict[Chunk, TrainState] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    split: list[Chunk] = field(default_factory=list)
    steps: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the newest checkpoint, with present defaults for those that it lacks."""
        return _complete(self.about.get("settings", {}))

    @property
    def data(self) -> dict[str, Any]:
        """The fingerprint of the data of the newest checkpoint."""
        return dict(self.about.get("data", {}))

    @property
    def step(self) -> int:
        """Number of steps that the next chunk to train has taken."""
        chunk = self.chunks[self._next] if self.chunks else None
        return self.starts[chunk].step if chunk in self.starts else 0

    @property
    def ends(self) -> bool:
        """Whether all chunks have taken all steps, or have no network left to train."""
        return bool(self.chunks) and all(map(self._ended, self.chunks))

    def next_chunk(self) -> str:
        """Return words on which chunk is trained next, if there are several."""
        return f", chunk {self._next + 1} of {len(self.chunks)}" if len(self.chunks) > 1 else ""

    def _ended(self, chunk: Chunk) -> bool:
        return chunk in self.starts and (self.starts[chunk].step == self.steps or not self.starts[chunk].alive)

    @property
    def _next(self) -> int:
        return next((i for i, chunk in enumerate(self.chunks) if not self._ended(chunk)), len(self.chunks) - 1)


@dataclass
class _StateFinder:
    """Finds states from which `population` can continue a training of `length`; `now` has its settings and data.

    Attributes:
        skipped: Reasons why checkpoints cannot be read.
        unfit: Reasons why states that were read do not fit.
    """

    run: Path
    population: Population
    length: Length
    dtype: str
    now: Mapping[str, Any]
    skipped: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)

    def last_of(self, chunk: Chunk) -> tuple[TrainState, Mapping[str, Any]] | None:
        """Return the last fitting state of a chunk, with its description; None if there is none."""
        start, stop = chunk
        if stop > len(self.population):
            self.unfit.append(f"which are of {stop} networks and more, and there are {len(self.population)}")
            return None
        shapes = parameter_shapes(self.population.part(start, stop).network, stop - start)
        for state, about in complete_states(chunk_folder(self.run, chunk), self.skipped):
            if reason := check_compatible(state, shapes, self.dtype) or self._misplaced(state, about):
                self.unfit.append(reason)
            elif len(state.step_metrics[0]):
                return state, about
            else:  # between epochs; their length may have changed
                step = min(state.epochs * self.length.steps_per_epoch, self.length.steps)
                return dataclasses.replace(state, step=step), about
        return None

    def _misplaced(self, state: TrainState, about: Mapping[str, Any]) -> str:
        """Return why a training cannot continue from the step of a state; an empty text if it can.

        Raises:
            RunError: The state has more epochs than the training.
        """
        length, epochs, taken = self.length, state.epochs, len(state.step_metrics[0])  # steps of the unfinished epoch
        per_epoch = about.get("length", {}).get("steps_per_epoch", 0)
        # At the end, the last epoch may be shorter.
        same_end = (per_epoch, state.step, epochs) == (length.steps_per_epoch, length.steps, length.epochs)
        if not (same_end and not taken) and (state.step != epochs * per_epoch + taken or taken >= max(per_epoch, 1)):
            return f"its last epoch was cut short at step {state.step}"
        if epochs > length.epochs:  # earlier checkpoints would fit, but the later epochs would be lost silently
            asked = f"and {length.epochs} are asked for; train a new run"
            raise RunError(f"{self.run}: it has trained {epochs} epochs already, {asked}")
        if not taken:
            return ""
        if changes := _batch_changes(about, self.now):
            return f"it is within an epoch, whose batches would change: {', '.join(changes)}"
        if per_epoch != length.steps_per_epoch:
            return f"it is within an epoch of {per_epoch} steps, and epochs have {length.steps_per_epoch} now"
        return "" if state.step < length.steps else f"it is at step {state.step} of {length.steps}"


def find_resume_point(
    run: Path,
    population: Population,
    length: Length,
    dtype: str,
    *,
    chunks: Sequence[Chunk] | None = None,
    most: int | None = None,
    now: Mapping[str, Any] = MappingProxyType({}),
) -> ResumePoint:
    """Return the point from which `population` can continue: the last complete checkpoint of every chunk.

    Args:
        run: The run folder.
        population: The networks to train.
        length: Length of their training.
        dtype: ``"float32"`` or ``"float64"``.
        chunks: Chunks of the population, each within a saved chunk; the saved chunks if not given.
        most: Most networks in a chunk; larger chunks are cut.
        now: The ``settings`` and ``data`` to continue with, if they may have changed: within an epoch, the batches must
            stay the same.

    Raises:
        RunError: There are complete checkpoints, but `population` cannot continue from any of them, or was trained for
            longer than `length`.
    """
    finder = _StateFinder(run, population, length, dtype, now)
    saved = {chunk: found for chunk in chunks_in(run) if (found := finder.last_of(chunk))}
    point = ResumePoint(skipped=finder.skipped, steps=length.steps)
    if not saved:
        if finder.unfit:
            raise RunError(f"{run}: cannot go on from its checkpoints, {finder.unfit[0]}; train a new run")
        return point
    # Chunks are only ever cut into smaller ones, so the checkpoints with the most chunks are the newest.
    newest = max(saved, key=lambda chunk: (len(saved[chunk][1].get("cuts", ())), chunk))
    point.about = saved[newest][1]
    for start, stop in chunks or _saved_chunks(run, point.about, len(population)):
        count = 1 if most is None else -(-(stop - start) // most)
        edges = [start + (stop - start) * i // count for i in range(count + 1)]  # parts of nearly equal size
        point.chunks += pairwise(edges)
    for start, stop in point.chunks:
        around = [chunk for chunk in saved if chunk[0] <= start and stop <= chunk[1]]
        if around:
            chunk = min(around, key=lambda chunk: chunk[1] - chunk[0])
            state = saved[chunk][0]
            if chunk != (start, stop):
                state = state.part(start - chunk[0], stop - chunk[0])
                point.split.append((start, stop))
            point.starts[start, stop] = state
    return point


def _saved_chunks(run: Path, about: Mapping[str, Any], replicas: int) -> list[Chunk]:
    """Return the chunks in a checkpoint's description; refuse a description for another number of networks."""
    chunks = [(start, stop) for start, stop in about.get("cuts", ())]
    edges = [0, *(stop for _, stop in chunks)]
    if [start for start, _ in chunks] != edges[:-1] or sorted(set(edges)) != edges or not chunks:
        raise RunError(f"{run}: cuts = {shown(about.get('cuts'))} in a checkpoint: are no chunks; train a new run")
    if edges[-1] != replicas:
        networks = counted(edges[-1], "network")
        raise RunError(f"{run}: its checkpoints are of {networks}, and there are {replicas}; train a new run")
    return chunks


def finished(run: Path) -> dict[str, Any] | None:
    """Return the final figures of a finished run, or None if the run is not finished."""
    try:
        metrics = read_metrics(run / METRICS)
    except RunError:
        return None
    return metrics if (run / MODEL).is_file() and not metrics["interrupted"] else None


def data_seen(run: Path) -> dict[str, Any]:
    """Return the fingerprint of the data on which a run was trained; empty before its first checkpoint."""
    for chunk in chunks_in(run):
        for about in descriptions_in(chunk_folder(run, chunk), []).values():
            return dict(about.get("data", {}))
    return {}


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between settings, or between data fingerprints, without those that may always change."""

    def show(value: Any) -> str:
        return "none" if value is None else shown(value)

    # Files of labels may move; the fingerprint of the data covers their content.
    files = all(str(settings.get("target")).endswith(".npy") for settings in (saved, now))
    return [
        f"{name} = {show(now.get(name))} (it has {show(saved.get(name))})"
        for name in sorted(saved.keys() | now.keys())
        if name not in _FREE and saved.get(name) != now.get(name) and not (name == "target" and files)
    ]


def _complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with present defaults for those that they lack, as those of earlier versions do."""
    try:
        return Settings.from_mapping(settings).to_mapping()
    except ConfigError:
        return dict(settings)  # the comparison of settings will report it


def _batch_changes(about: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences, in settings and data, that change the batches of an epoch."""
    changes: list[str] = []
    if now.get("settings"):
        # Settings that are None are missing from the mapping.
        settings = (_complete(source.get("settings", {})) for source in (about, now))
        changes += differences(*({name: source.get(name) for name in _BATCHES} for source in settings))
    saved, current = about.get("data", {}), now.get("data", {})
    both = saved.keys() & current.keys()
    return changes + differences(*({name: data[name] for name in both} for data in (saved, current)))


def validate_resume(
    run: Path,
    point: ResumePoint,
    settings: Sequence[str],
    data: Sequence[str] = (),
    *,
    location: str = "",
    allow_changes: bool = False,
) -> list[str]:
    """Return the reasons why a run cannot continue with changed settings or data; an empty list if it can.

    Args:
        run: The run folder.
        point: The point from which it would continue.
        settings: Changed settings, as :func:`differences` returns them.
        data: Changes of the data, as :func:`differences` returns them.
        location: Location of the data.
        allow_changes: Whether the user allows changes; some are impossible anyway.
    """
    if not (changes := [*settings, *data]):
        return []
    if not allow_changes:
        other = f"other data than it has seen ({location}): " if data else ""
        leave = "name its own with --data" if data else "leave that out"
        otherwise = "go on all the same with --allow-changes, or train a new run from it with --config"
        return [f"{run}: cannot be resumed with {other}{', '.join(changes)}; {leave}, {otherwise}"]
    reasons = []
    of_networks = [text for text in changes if not text.startswith("max_replicas = ")]
    epochs = {point.starts[chunk].epochs if chunk in point.starts else 0 for chunk in point.chunks}
    if of_networks and len(epochs) > 1:
        reasons.append(
            f"{run}: its chunks have finished {', '.join(map(str, sorted(epochs)))} epochs, so {of_networks[0]} would "
            "be of some of its networks alone; resume it to its end first"
        )
    reasons += [_LACKS_MOMENTS.format(run, text) for text in settings if text.startswith("optimiser = ")]
    if point.ends:  # the run would claim settings that it was not trained with
        done = f"its {point.steps} steps are done; ask for more with --epochs, or"
        done = done if point.step == point.steps else "all its networks have stopped;"
        why = f"nothing is left to train with {changes[0]}: {done} train a new run from it with --config"
        reasons.append(f"{run}: {why}")
    return reasons
