"""``xpnet search`` with several workers: what is asked for, and where they run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from xpnet.cli import given_arguments
from xpnet.cli.cluster import check_slurm, job_options, submit
from xpnet.cli.search_start import SearchRequest
from xpnet.cli.workers import LOGS, LocalWorkers, devices_of, joining, without
from xpnet.errors import ConfigError
from xpnet.runs.folder import is_taken
from xpnet.tuning.storage import close_storage, database_errors
from xpnet.utils.extras import need
from xpnet.utils.file_system import unused
from xpnet.utils.plural import counted

# Options of this process that its workers do not get.
_NOT_PASSED_ON = ("--workers", "--launcher", "--slurm", "--device", "--out")


@dataclass
class WorkersTogether:
    """The options of a search about several workers.

    Attributes:
        request: What is searched.
        workers: Number of workers; None for one on each device.
        launcher: ``"local"`` or ``"slurm"``.
        slurm: Options of the jobs.
    """

    request: SearchRequest
    workers: int | None
    launcher: str
    slurm: str | None
    _devices: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.slurm is not None and self.launcher != "slurm":
            raise ConfigError(f"slurm = {self.slurm}: has no effect without --launcher slurm")
        self._devices = devices_of(self.request.own.get("device"), self.workers)

    @property
    def wanted(self) -> bool:
        """Whether this process starts workers, and is none itself."""
        return self.launcher == "slurm" or len(self._devices) > 1

    def run(self, space: tuple[str, ...], resume: Path | None) -> int:
        """Begin the search, or take part in it, with all workers; return the exit code."""
        if self.launcher == "slurm":
            self._submit(space, resume)
            return 0
        folder, passed = resume, without(given_arguments(), *_NOT_PASSED_ON)
        if folder is None:
            folder = self._new_folder()
            passed.append(f"--out={folder}")
        return LocalWorkers(self._devices, passed, self._joining(folder), folder, self.request.output).run()

    def _joining(self, folder: Path) -> list[str]:
        request = self.request
        return joining(folder, request.own, request.searched.get("lease"), request.storage)

    def _new_folder(self) -> Path:
        """Return the path of the folder that the first worker makes."""
        out = self.request.out or Path("runs", f"search-{time.strftime('%Y-%m-%d_%H-%M-%S')}")
        if out.exists() and self.request.out is not None:
            raise is_taken(out)
        return unused(out) if out.exists() else out

    def _submit(self, space: tuple[str, ...], resume: Path | None) -> None:
        """Begin the search here, and submit its workers."""
        options = job_options(self.slurm)
        need("cluster", "launcher = slurm")
        check_slurm()
        request = self.request
        if request.options is not None:  # this machine has no need of a GPU
            request = replace(request, options=replace(request.options, device="cpu"))
        request = replace(request, own=request.own | {"device": "cpu"})
        with database_errors():
            worker, folder = request.start(space) if space else request.join(resume)
            study = worker.queue.name
            close_storage(worker.queue.storage)
        line = self._joining(folder.absolute())
        lines = [line if device is None else [*line, "--device", device] for device in self._devices]
        jobs = submit(lines, folder.absolute(), options)
        found = {"folder": str(folder), "study": study, "jobs": [job.job_id for job in jobs], "launcher": self.launcher}
        request.output.result(
            found,
            f"{counted(len(jobs), 'worker')} submitted: {', '.join(found['jobs'])}; logs: {folder / LOGS}",
            f"when they have ended, this shows the result: xpnet search --resume {folder}",
        )
