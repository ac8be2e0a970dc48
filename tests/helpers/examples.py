"""How many examples hypothesis draws: few by default, many with ``--thorough``."""

from __future__ import annotations

import os

import hypothesis


def examples(few: int, many: int = 100) -> hypothesis.settings:
    """Return settings for tests that draw `few` examples, or `many` with ``--thorough``."""
    return hypothesis.settings(max_examples=many if os.environ.get("XPNET_TEST_THOROUGH") else few, deadline=None)
