"""One module a format, and what reads its parts."""
