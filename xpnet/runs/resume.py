"""Resuming a run: the checkpoints from which it goes on, and whether it can do so with what is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xpnet.config.definitions import Length
from xpnet.config.fields import shown
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, RunError
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.model_file import MODEL
from xpnet.runs.changes import other_batches
from xpnet.runs.checkpoints import checkpoints_in, read_checkpoint
from xpnet.runs.folder import CHECKPOINTS, METRICS, chunk_folder
from xpnet.runs.records import read_metrics
from xpnet.runs.saver import LOCK
from xpnet.training.population import Population
from xpnet.training.state import Chunk, TrainState, check_compatible


@dataclass
class ResumePoint:
    """The point from which a run goes on.

    Attributes:
        chunks: The chunks of its population; None before the first checkpoint.
        starts: The state of each chunk, from its last complete checkpoint that fits.
        about: The description of the newest of these checkpoints; empty before the first.
        wrong: What is wrong with later checkpoints, which are passed over.
        split: Chunks that were saved together with others.
        steps: Steps of the training, from its beginning to its end.
    """

    chunks: list[Chunk] | None = None
    starts: dict[Chunk, TrainState] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    split: list[Chunk] = field(default_factory=list)
    steps: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the newest checkpoint, with today's defaults for settings that are newer."""
        saved = _mapping(self.about.get("settings"))
        try:
            return Settings.from_mapping(saved).to_mapping()
        except ConfigError:
            return saved  # the differences will show it

    @property
    def data(self) -> dict[str, Any]:
        """The fingerprint of the data of the newest checkpoint."""
        return _mapping(self.about.get("data"))

    @property
    def step(self) -> int:
        """Steps that the chunk which is trained next has taken."""
        return 0 if self.chunks is None else self._step(self.chunks[self._next])

    @property
    def ends(self) -> bool:
        """Whether all steps of all chunks are taken."""
        return self.chunks is not None and all(self._step(chunk) == self.steps for chunk in self.chunks)

    def next_chunk(self) -> str:
        """Say which chunk is trained next, if there are several."""
        if self.chunks is None or len(self.chunks) == 1:
            return ""
        return f", chunk {self._next + 1} of {len(self.chunks)}"

    @property
    def _next(self) -> int:
        chunks = self.chunks or []
        return next((i for i, chunk in enumerate(chunks) if self._step(chunk) < self.steps), len(chunks) - 1)

    def _step(self, chunk: Chunk) -> int:
        return self.starts[chunk].step if chunk in self.starts else 0


def refuse_links(run: Path) -> None:
    """Refuse checkpoints that lie elsewhere: what is deleted and written must be the run's.

    Raises:
        RunError: There is a link.
    """
    home = run / CHECKPOINTS
    for path in (home, home / LOCK, *home.glob("*-*")):
        if path.is_symlink():
            raise RunError(f"{path}: is a link, which may lead out of the run's folder; put what it means in its place")


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
    """Find the last complete checkpoint of every chunk from which `population` can go on.

    Args:
        run: The run folder.
        population: The networks to train.
        length: Length of their training.
        dtype: ``"float32"`` or ``"float64"``.
        chunks: Chunks of the population, each within one that was saved; those that were saved if not given.
        most: Most networks in a chunk; larger chunks are cut.
        now: The ``settings`` and ``data`` to go on with, where they may differ: within an epoch the batches must stay
            the same.

    Raises:
        RunError: There are complete checkpoints, and `population` cannot go on from any of them, or was trained for
            longer than `length`.
    """
    point = ResumePoint(steps=length.steps)
    saved: dict[Chunk, tuple[TrainState, Mapping[str, Any]]] = {}
    unfit: list[str] = []
    for chunk in _chunks_in(run):
        if chunk[1] > len(population):
            unfit.append(f"which are of {chunk[1]} networks and more, and there are {len(population)}")
        elif found := _last_fitting(run, chunk, population, length, dtype, now, point.wrong, unfit):
            saved[chunk] = found
    if unfit and not saved:
        raise RunError(f"{run}: cannot go on from its checkpoints, {unfit[0]}; train a new run")
    if saved:
        # Chunks are only ever cut into smaller ones: the checkpoints that know most chunks are the newest.
        newest = max(saved, key=lambda chunk: (len(saved[chunk][1].get("cuts", ())), chunk))
        point.about = saved[newest][1]
        point.chunks = _of_at_most(most, chunks or _chunks_of(run, point.about, len(population)))
    for start, stop in point.chunks or ():
        around = [chunk for chunk in saved if chunk[0] <= start and stop <= chunk[1]]
        if around:
            chunk = min(around, key=lambda chunk: chunk[1] - chunk[0])
            state = saved[chunk][0]
            if chunk != (start, stop):
                state = state.part(start - chunk[0], stop - chunk[0])
                point.split.append((start, stop))
            point.starts[start, stop] = state
    return point


def _last_fitting(
    run: Path,
    chunk: Chunk,
    population: Population,
    length: Length,
    dtype: str,
    now: Mapping[str, Any],
    wrong: list[str],
    unfit: list[str],
) -> tuple[TrainState, Mapping[str, Any]] | None:
    """Return the last state of a chunk from which it can go on, with its description.

    What is wrong with later checkpoints is added to `wrong`, and why states do not fit to `unfit`.
    """
    checkpoints, damaged = checkpoints_in(chunk_folder(run, chunk))
    wrong += damaged
    shapes = parameter_shapes(population.part(*chunk).network, chunk[1] - chunk[0])
    for checkpoint in checkpoints:
        try:
            state, about = read_checkpoint(checkpoint.path)
        except RunError as error:
            wrong.append(str(error))
            continue
        placed = check_compatible(state, shapes, dtype) or _placed(run, state, about, length, now)
        if not isinstance(placed, str):
            return placed, about
        unfit.append(placed)
    return None


def _of_at_most(most: int | None, chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return the chunks, those of more than `most` networks cut into parts that are as even as can be."""
    found = []
    for start, stop in chunks:
        count = 1 if most is None else -(-(stop - start) // most)
        edges = [start + (stop - start) * i // count for i in range(count + 1)]
        found += list(pairwise(edges))
    return found


def data_seen(run: Path) -> dict[str, Any]:
    """Return the fingerprint of the data that a run has been trained on; empty before its first checkpoint."""
    for chunk in _chunks_in(run):
        for checkpoint in checkpoints_in(chunk_folder(run, chunk))[0]:
            return _mapping(checkpoint.about.get("data"))
    return {}


def _chunks_in(run: Path) -> list[Chunk]:
    chunks = []
    for folder in (run / CHECKPOINTS).glob("*-*"):
        start, _, stop = folder.name.partition("-")
        if start.isdecimal() and stop.isdecimal() and len(folder.name) < 20 and int(start) < int(stop):
            chunks.append((int(start), int(stop)))
    return sorted(chunks)


def _chunks_of(run: Path, about: Mapping[str, Any], replicas: int) -> list[Chunk]:
    """Return the chunks that a checkpoint tells of.

    Raises:
        RunError: They are not those of a population of that many.
    """
    chunks = [(start, stop) for start, stop in about.get("cuts", ())]
    edges = [0, *(stop for _, stop in chunks)]
    if [start for start, _ in chunks] != edges[:-1] or sorted(set(edges)) != edges or not chunks:
        raise RunError(f"{run}: cuts = {shown(about.get('cuts'))} in a checkpoint: are no chunks; train a new run")
    if edges[-1] != replicas:
        networks = f"{edges[-1]} network{'s' * (edges[-1] != 1)}"
        raise RunError(f"{run}: its checkpoints are of {networks}, and there are {replicas}; train a new run")
    return chunks


def _placed(
    run: Path, state: TrainState, about: Mapping[str, Any], length: Length, now: Mapping[str, Any]
) -> TrainState | str:
    """Return a state with its step in a training of `length`, or why it has no place there.

    Raises:
        RunError: It has been trained for longer.
    """
    steps = about.get("length", {}).get("steps_per_epoch", 0)
    epochs, done = state.epochs, len(state.step_metrics[0])
    if steps == length.steps_per_epoch and state.step == length.steps and not done and epochs == length.epochs:
        return state  # the end, where the last epoch may be a short one
    if state.step != epochs * steps + done or done >= max(steps, 1):
        return f"its last epoch was cut short at step {state.step}"
    if epochs > length.epochs:
        # Earlier ones would do, but what was trained since would be lost without a word.
        raise RunError(
            f"{run}: it has trained {epochs} epochs already, and {length.epochs} are asked for; train a new run"
        )
    if not done:
        return dataclasses.replace(state, step=epochs * length.steps_per_epoch)
    if others := other_batches(about, now):
        return f"it stands within an epoch, with other batches: {', '.join(others)}"
    if steps != length.steps_per_epoch:
        return f"it stands within an epoch of {steps} steps, and epochs have {length.steps_per_epoch} now"
    return state if state.step < length.steps else f"it stands at step {state.step} of {length.steps}"


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def validate_resume(
    run: Path,
    point: ResumePoint,
    settings: Sequence[str],
    data: Sequence[str] = (),
    *,
    location: str = "",
    allow_changes: bool = False,
) -> list[str]:
    """Return the reasons for which a run cannot go on with other settings or data; an empty list if it can.

    Args:
        run: The run folder.
        point: From where it would go on.
        settings: Settings that differ, as :func:`differences` returns them.
        data: What differs in the data, likewise.
        location: Where the data lies.
        allow_changes: Whether differences are wanted; some are impossible all the same.
    """
    changes = ", ".join((*settings, *data))
    if not changes:
        return []
    if not allow_changes:
        other = f"other data than it has seen ({location}): " if data else ""
        leave = "name its own with --data" if data else "leave that out"
        otherwise = "go on all the same with --allow-changes, or train a new run from it with --config"
        return [f"{run}: cannot be resumed with {other}{changes}; {leave}, {otherwise}"]
    reasons = []
    of_networks = [text for text in (*settings, *data) if not text.startswith("max_replicas = ")]
    epochs = {point.starts[chunk].epochs if chunk in point.starts else 0 for chunk in point.chunks or ()}
    if of_networks and len(epochs) > 1:
        reasons.append(
            f"{run}: its chunks stand at {', '.join(map(str, sorted(epochs)))} epochs, so {of_networks[0]} would be of "
            "some of its networks alone; resume it to its end first"
        )
    if point.ends:  # the run would say of itself what is not so
        reasons.append(
            f"{run}: nothing is left to train with {(*settings, *data)[0]}: its {point.steps} steps are done; ask for "
            "more with --epochs, or train a new run from it with --config"
        )
    return reasons


def finished(run: Path) -> dict[str, Any] | None:
    """Return the figures of a run that has ended, or None if there is something left to do."""
    try:
        metrics = read_metrics(run / METRICS)
    except RunError:
        return None
    return metrics if (run / MODEL).is_file() and not metrics["interrupted"] else None
