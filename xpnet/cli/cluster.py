"""Workers of a search as jobs of a cluster, which submitit submits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.cli.workers import LOGS
from xpnet.errors import ConfigError, RunError, one_line

# Minutes that a job may take, if nobody says so; submitit's own default is 5.
_MINUTES = 60


def job_options(text: str | None) -> dict[str, Any]:
    """Return the options of Slurm jobs in ``NAME=VALUE,...``, by the names that submitit gives them.

    Raises:
        ConfigError: The text has another form, or a name twice.
    """
    options: dict[str, Any] = {"slurm_time": _MINUTES}
    pairs = [] if text is None else [part.partition("=") for part in text.split(",")]
    for name, _, value in pairs:
        if not name.strip().isidentifier() or not value.strip():
            raise ConfigError(f"slurm = {text}: must be names and values, such as partition=gpu,time=60")
        options[f"slurm_{name.strip()}"] = int(value) if value.strip().isdecimal() else value.strip()
    return options


def check_slurm() -> None:
    """Look for Slurm's commands, before there is a search without workers.

    Raises:
        RunError: They are not on this machine.
    """
    if shutil.which("srun") is None:
        raise RunError("launcher = slurm: there is no srun on this machine; begin the search on one that has Slurm")


def submit(
    lines: Sequence[Sequence[str]], folder: Path, options: Mapping[str, Any], *, cluster: str = "slurm"
) -> list[Any]:
    """Submit a job for each of some command lines of xpnet, as one array of jobs.

    Args:
        lines: The command lines.
        folder: The folder of the search, below which the logs are written.
        options: Options of the jobs, by the names that submitit gives them.
        cluster: Where submitit runs the jobs: ``"slurm"``; or ``"local"``, as processes of this machine.

    Returns:
        The jobs, as submitit describes them.

    Raises:
        RunError: The cluster cannot be asked, or refuses the jobs.
        ConfigError: An option is unknown.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(folder=folder / LOGS, cluster=cluster)
        executor.update_parameters(name="xpnet-search", **options)
        return list(executor.map_array(work, [list(line) for line in lines]))
    except (NameError, TypeError) as error:  # submitit's errors for unknown options
        raise ConfigError(f"slurm: {one_line(str(error))}; such as partition=gpu,time=60,gpus_per_node=1") from error
    except (RuntimeError, OSError, subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise RunError(f"launcher = {cluster}: the jobs cannot be submitted ({one_line(str(error))})") from error


def work(line: Sequence[str]) -> int:
    """Run a command line of xpnet within a job; its output is the job's.

    Raises:
        RuntimeError: It has ended with another exit code than 0, so that the job counts as failed.
    """
    code = subprocess.call([sys.executable, "-m", "xpnet", *line])
    if code:
        raise RuntimeError(f"xpnet {' '.join(line)}: has ended with exit code {code}")
    return code
