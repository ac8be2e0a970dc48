"""What tests of searches share."""

from __future__ import annotations

from collections.abc import Iterator

import postgresql
import pytest


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Yield the URL of a real PostgreSQL, or skip."""
    programs = postgresql.binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL's server programs (Debian: postgresql)")
    with postgresql.server(programs) as url:
        yield url
