"""Atomic files, locks, parsing, random streams, lazy arrays: nothing about networks."""
