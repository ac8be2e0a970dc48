"""Where a run stands on the disk, and whether what is there is what is asked for."""

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
from xpnet.runs.checkpoints import checkpoints_in, read_checkpoint
from xpnet.runs.folder import CHECKPOINTS, METRICS
from xpnet.runs.records import read_metrics
from xpnet.runs.saver import LOCK, chunk_folder
from xpnet.training.population import Population
from xpnet.training.state import Chunk, TrainState, misfit

# Where something is computed, and how often it is saved, may change on the way.
OWN = ("data", "device", "save_every", "keep")
# Of settings, what decides which samples are in which batch of an epoch.
_OF_BATCHES = ("batch_size", "drop_last", "shuffle", "shuffle_seed", "seed", "runs")


@dataclass
class ResumePoint:
    """Where a run stands.

    Attributes:
        cuts: The chunks of its population; None before the first checkpoint.
        starts: The last snapshot of each chunk that is whole and fits.
        about: What the newest of them says of its run; empty before the first.
        wrong: What is wrong with those that are passed over.
        split: Chunks that were saved together with others.
        steps: Steps of the whole training.
    """

    cuts: list[Chunk] | None = None
    starts: dict[Chunk, TrainState] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    split: list[Chunk] = field(default_factory=list)
    steps: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the newest snapshot is of, with today's defaults for those that are younger."""
        there = _mapping(self.about.get("settings"))
        try:
            return Settings.from_mapping(there).to_mapping()
        except ConfigError:
            return there  # what differs will say it

    @property
    def data(self) -> dict[str, Any]:
        """The fingerprint of the data that it has seen."""
        return _mapping(self.about.get("data"))

    @property
    def step(self) -> int:
        """Steps of the chunk that is trained next."""
        return 0 if self.cuts is None else self._step(self.cuts[self._next])

    def of_chunks(self) -> str:
        """Say which chunk that is, where there are several."""
        if self.cuts is None or len(self.cuts) == 1:
            return ""
        return f", chunk {self._next + 1} of {len(self.cuts)}"

    @property
    def _next(self) -> int:
        cuts = self.cuts or []
        return next((at for at, cut in enumerate(cuts) if self._step(cut) < self.steps), len(cuts) - 1)

    def _step(self, cut: Chunk) -> int:
        return self.starts[cut].step if cut in self.starts else 0


def refuse_links(run: Path) -> None:
    """Refuse checkpoints that lie elsewhere: what is deleted and written must be the run's.

    Raises:
        RunError: There is a link.
    """
    home = run / CHECKPOINTS
    for path in (home, home / LOCK, *home.glob("*-*")):
        if path.is_symlink():
            raise RunError(f"{path}: is a link, which may lead out of the run's folder; put what it means in its place")


def where_it_stands(
    run: Path,
    population: Population,
    length: Length,
    dtype: str,
    *,
    cuts: Sequence[Chunk] | None = None,
    most: int | None = None,
    now: Mapping[str, Any] = MappingProxyType({}),
) -> ResumePoint:
    """Find the last checkpoint of every chunk that is whole and from which `population` can go on.

    Args:
        run: The run folder.
        population: What is trained.
        length: How long.
        dtype: ``"float32"`` or ``"float64"``.
        cuts: Its chunks, each a part of one that was saved; as they were saved if not given.
        most: Most networks in a chunk; larger ones are cut.
        now: ``settings`` and ``data`` that it goes on with, where they may be others: within an epoch its batches must
            be the same.

    Raises:
        RunError: There are whole checkpoints, and `population` cannot go on from any, or has been trained for longer
            than it is asked for.
    """
    found = ResumePoint(steps=length.steps)
    whole: dict[Chunk, tuple[TrainState, Mapping[str, Any]]] = {}
    misfits: list[str] = []
    for chunk in _chunks_in(run):
        if chunk[1] > len(population):
            misfits.append(f"which are of {chunk[1]} networks and more, and there are {len(population)}")
            continue
        checkpoints, wrong = checkpoints_in(chunk_folder(run, chunk))
        found.wrong += wrong
        for checkpoint in checkpoints:
            try:
                snapshot, about = read_checkpoint(checkpoint.path)
            except RunError as error:
                found.wrong.append(str(error))
                continue
            shapes = parameter_shapes(population.part(*chunk).network, chunk[1] - chunk[0])
            here = misfit(snapshot, shapes, dtype) or _at(run, snapshot, about, length, now)
            if isinstance(here, str):
                misfits.append(here)
                continue
            whole[chunk] = here, about
            break
    if misfits and not whole:
        raise RunError(f"{run}: cannot go on from its checkpoints, {misfits[0]}; train a new run")
    if whole:
        # Chunks are only ever cut into smaller ones: those that tell of most chunks are the newest.
        newest = max(whole, key=lambda chunk: (len(whole[chunk][1].get("cuts", ())), chunk))
        found.about = whole[newest][1]
        found.cuts = _of_at_most(most, cuts or _cuts(run, found.about, len(population)))
    for start, stop in found.cuts or ():
        within = [chunk for chunk in whole if chunk[0] <= start and stop <= chunk[1]]
        if not within:
            continue
        chunk = min(within, key=lambda chunk: chunk[1] - chunk[0])
        if chunk == (start, stop):
            found.starts[chunk] = whole[chunk][0]
        else:
            found.starts[start, stop] = whole[chunk][0].part(start - chunk[0], stop - chunk[0])
            found.split.append((start, stop))
    return found


def _of_at_most(most: int | None, cuts: Sequence[Chunk]) -> list[Chunk]:
    """Return the chunks, those of more than `most` networks cut into parts that are as even as can be."""
    found = []
    for start, stop in cuts:
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


def _cuts(run: Path, about: Mapping[str, Any], replicas: int) -> list[Chunk]:
    """Return the chunks that a checkpoint tells of.

    Raises:
        RunError: They are not those of a population of that many.
    """
    cuts = [(start, stop) for start, stop in about.get("cuts", ())]
    edges = [0, *(stop for _, stop in cuts)]
    if [start for start, _ in cuts] != edges[:-1] or sorted(set(edges)) != edges or not cuts:
        raise RunError(f"{run}: cuts = {shown(about.get('cuts'))} in a checkpoint: are no chunks; train a new run")
    if edges[-1] != replicas:
        networks = f"{edges[-1]} network{'s' * (edges[-1] != 1)}"
        raise RunError(f"{run}: its checkpoints are of {networks}, and there are {replicas}; train a new run")
    return cuts


def _at(
    run: Path, snapshot: TrainState, about: Mapping[str, Any], length: Length, now: Mapping[str, Any]
) -> TrainState | str:
    """Return a snapshot as it stands in a training of `length`, or why it stands nowhere there.

    Raises:
        RunError: It has been trained for longer.
    """
    steps = about.get("length", {}).get("steps_per_epoch", 0)
    epochs, done = snapshot.epochs, len(snapshot.totals[0])
    if steps == length.steps_per_epoch and snapshot.step == length.steps and not done and epochs == length.epochs:
        return snapshot  # the end, where the last epoch may be a short one
    if snapshot.step != epochs * steps + done or done >= max(steps, 1):
        return f"its last epoch was cut short at step {snapshot.step}"
    if epochs > length.epochs:
        # Earlier ones would do, but what was trained since would be lost without a word.
        raise RunError(
            f"{run}: it has trained {epochs} epochs already, and {length.epochs} are asked for; train a new run"
        )
    if not done:
        return dataclasses.replace(snapshot, step=epochs * length.steps_per_epoch)
    if others := _other_batches(about, now):
        return f"it stands within an epoch, with other batches: {', '.join(others)}"
    if steps != length.steps_per_epoch:
        return f"it stands within an epoch of {steps} steps, and epochs have {length.steps_per_epoch} now"
    return snapshot if snapshot.step < length.steps else f"it stands at step {snapshot.step} of {length.steps}"


def _other_batches(about: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what the samples of an epoch's batches depend on and is not what it was."""
    there, here = about.get("settings", {}), now.get("settings", {})
    found: list[str] = []
    if here:
        # A setting that is None is not in the mapping.
        found = differences(*({name: of.get(name) for name in _OF_BATCHES} for of in (there, here)))
    data, data_now = about.get("data", {}), now.get("data", {})
    names = [name for name in data if name in data_now]
    return found + differences({name: data[name] for name in names}, {name: data_now[name] for name in names})


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Say in what settings or data differ, but for what may change on the way."""
    return [
        f"{name} = {_shown(here.get(name))} (it has {_shown(there.get(name))})"
        for name in sorted(there.keys() | here.keys())
        if name not in OWN and there.get(name) != here.get(name) and not (name == "target" and _are_files(there, here))
    ]


def _are_files(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Return whether both name a file of labels, which may lie anywhere: the data's fingerprint has them."""
    return all(str(settings.get("target")).endswith(".npy") for settings in (there, here))


def _shown(value: Any) -> str:
    return "none" if value is None else shown(value)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def refuse(run: Path, found: Sequence[str]) -> None:
    """Refuse to go on with what differs.

    Raises:
        RunError: Something does.
    """
    if found:
        raise RunError(
            f"{run}: cannot be resumed with {', '.join(found)}; leave that out, go on all the same with "
            "--allow-changes, or train a new run from it with --config"
        )


def refuse_data(run: Path, location: str, found: Sequence[str]) -> None:
    """Refuse to go on with the data at `location`, which differs.

    Raises:
        RunError: Always.
    """
    raise RunError(
        f"{run}: cannot be resumed with other data than it has seen ({location}): {', '.join(found)}; name "
        "its own with --data, go on all the same with --allow-changes, or train a new run from it with --config"
    )


def refuse_changes(run: Path, stand: ResumePoint, found: Sequence[str]) -> None:
    """Refuse changes that cannot be made where a run stands.

    Raises:
        RunError: The chunks of a population stand at different epochs: some of its networks would have the old
            settings, and some the new ones.
    """
    of_networks = [text for text in found if not text.startswith("max_replicas = ")]
    epochs = {stand.starts[cut].epochs if cut in stand.starts else 0 for cut in stand.cuts or ()}
    if of_networks and len(epochs) > 1:
        stand_at = ", ".join(map(str, sorted(epochs)))
        raise RunError(
            f"{run}: its chunks stand at {stand_at} epochs, so {of_networks[0]} would be of some of its "
            "networks alone; resume it to its end first"
        )


def refuse_nothing(run: Path, stand: ResumePoint, found: Sequence[str]) -> None:
    """Refuse changes of which no step would be trained: the run would say of itself what is not so.

    Raises:
        RunError: All its steps are done.
    """
    if stand.cuts is not None and all(
        cut in stand.starts and stand.starts[cut].step == stand.steps for cut in stand.cuts
    ):
        raise RunError(
            f"{run}: nothing is left to train with {found[0]}: its {stand.steps} steps are done; ask for more with "
            "--epochs, or train a new run from it with --config"
        )


def finished(run: Path) -> dict[str, Any] | None:
    """Return the figures of a run that has ended, or None if there is something left to do."""
    try:
        metrics = read_metrics(run / METRICS)
    except RunError:
        return None
    return metrics if (run / MODEL).is_file() and not metrics["interrupted"] else None
