"""Readers: one module a format.

A file that is broken, hostile, or unfit for a data set raises :class:`~xpnet.errors.DataError`: one sentence with its
name, and with row and column if it has them.  A file that the system does not let us read raises OSError.
"""
