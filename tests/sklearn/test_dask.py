"""The example of docs/estimator.md for Dask, on its local cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/estimator.md"


@pytest.mark.slow
def test_grid_search_runs_on_the_local_cluster_of_dask():
    pytest.importorskip("distributed", reason="distributed is not installed")
    (example,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    Path("cluster.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-W", "error", "cluster.py"], capture_output=True, text=True, timeout=300, check=False
    )
    assert re.fullmatch(r"{'lam': 0\.\d+} 0\.[89]\d*\n", done.stdout), done.stdout + done.stderr
