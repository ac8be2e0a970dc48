"""What a reader may try next, as a command: what the conclusion of a run advises, with numbers."""

from __future__ import annotations

from xpnet.report.blocks import repeat_command
from xpnet.report.records import RunRecord

# By how much a learning rate, a penalty and a length are changed: enough to see a difference.
_RATE, _PENALTY, _LENGTH = 3.0, 3.0, 2
# Cycles of a training that does not say how many.
_CYCLES = 2
# A penalty to begin with where there is none.
_FIRST = 1e-3


def next_steps(record: RunRecord) -> list[tuple[str, str | None]]:
    """Return the command that follows the advice of a run's conclusion; nothing where it gives none in numbers.

    Runs of several combinations of settings get none: their tables compare what was tried.
    """
    rule = ((record.metrics or {}).get("conclusion") or {}).get("rule", "")
    train = record.settings.train
    if record.settings.varying:
        return []
    rate = "eta_max" if train.schedule in ("triangular", "one-cycle") else "eta"
    eta, lam = (float(getattr(train, name) or 0.0) for name in (rate, "lam"))
    changed = {
        "overfits": f"--lambda {lam * _PENALTY or _FIRST:.4g}",
        "rate-too-small": f"--{rate.replace('_', '-')} {eta * _RATE:.4g}",
        "rate-too-large": f"--{rate.replace('_', '-')} {eta / _RATE:.4g}",
        "still-learning": _longer(record),
    }.get(rule, "")
    return (
        [("What the conclusion advises, as a new run:", f"{repeat_command(record.path)} {changed}")] if changed else []
    )


def _longer(record: RunRecord) -> str:
    train = record.settings.train
    if train.epochs is None and train.schedule in ("triangular", "cosine-restarts"):
        return f"--cycles {_LENGTH * (train.cycles or _CYCLES)}"
    return f"--epochs {_LENGTH * (train.epochs or (record.metrics or {}).get('epochs', 1)):g}"
