"""What tests have in place of pictures: drawing takes longer than most of their trainings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xpnet.report import drawing_process, figure_files, render

# The functions that make the charts of trainings.
CHARTS = {name: getattr(figure_files, name) for name in ("curves", "population")}


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Put a line in place of the charts of trainings, and specifications in place of all other pictures."""
    patch.setattr(render, "png", lambda svg, scale: svg.encode())
    patch.setattr(render, "svg", lambda spec: json.dumps(render.drawable(spec)))
    patch.setattr(drawing_process, "started", lambda: None)
    for name in CHARTS:
        patch.setattr(figure_files, name, _line)


def _line(*given: Any) -> dict[str, bytes]:
    """Return files of the curves of a training; the chart itself takes a quarter of a command's time."""
    *_, result, title, kinds = given
    steps = getattr(result, "history", result)["step"].tolist()
    return {f"{figure_files.CURVES}.{kind}": f"{title}: steps {steps}".encode() for kind in kinds}
