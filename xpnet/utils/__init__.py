"""Atomic files, locks, parsing, random streams, lazy arrays, display: nothing about networks."""
