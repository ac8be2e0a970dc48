"""Tables of features, read in chunks."""

from __future__ import annotations

import numpy as np

from xpnet.data.feature_table import table_of


def test_chunks_that_are_not_read_to_the_end_leave_numpys_error_handling_alone():
    before = np.geterr()
    chunks = iter(table_of(np.ones((3, 2)), "x").chunks())
    next(chunks)
    assert np.geterr() == before
    chunks.close()
    assert np.geterr() == before
