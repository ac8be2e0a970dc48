"""The share of time that workers lose to their storage, with workers that wait."""

from __future__ import annotations

import re

import pytest

from bench.workers import main


@pytest.mark.slow
def test_workers_that_wait_finish_the_search_and_lose_a_share_of_their_time(capsys):
    assert main(["--workers", "2", "--trials", "6", "--seconds", "0.2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 workers, 6 trials of 0.2 s: ")
    assert "at least 0.6 s" in out
    assert 0 <= float(re.search(r"([\d.]+) % of the workers' time lost", out)[1]) < 100
