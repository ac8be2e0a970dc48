"""Readers: one module a format.

A file that is broken, hostile, or unfit for a data set is a :class:`~xpnet.errors.DataError`: one sentence with its
name, and with row and column where there are any.  A file that the system does not let us read is an OSError.
"""
