"""Fixtures that tests of searches share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import postgresql
import pytest
from search_cases import small_search

from xpnet.tuning.leases import LeaseWatch


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Yield the URL of a real PostgreSQL, or skip."""
    programs = postgresql.binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL's server programs (Debian: postgresql)")
    with postgresql.server(programs) as url:
        yield url


@pytest.fixture
def begin(blobs, monkeypatch):
    """Return a function that begins a small search of the blobs; see :func:`search_cases.small_search`."""
    monkeypatch.setattr("xpnet.tuning.worker._SECONDS_TO_WAIT", 0.01)
    monkeypatch.setattr("xpnet.tuning.winner._SECONDS_TO_WAIT", 0.01)
    return partial(small_search, blobs)


@pytest.fixture
def let_leases_expire(monkeypatch):
    """Return a function that lets the leases of other workers expire at a worker's next look."""

    def expire(worker):
        clock = itertools.count(0, 1000).__next__
        worker.queue.watch.clock = clock
        monkeypatch.setattr("xpnet.tuning.trial_queue.LeaseWatch", lambda: LeaseWatch(clock=clock))

    return expire
