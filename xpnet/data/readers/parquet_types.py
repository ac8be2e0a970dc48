"""Types of the columns of Parquet files, where pyarrow is installed."""

from __future__ import annotations

from typing import Any


def leaves(kind: Any) -> int:
    """Return how many columns of the file make up a column: those of a structure lie side by side."""
    count, below = 0, [kind]
    while below:
        top = below.pop()
        below += [top.field(i).type for i in range(top.num_fields)]
        count += not top.num_fields
    return count


def width(kind: Any) -> int:
    """Return the bytes in memory of each value of a type that is not read as a dictionary."""
    from pyarrow import types

    return max(1, kind.byte_width) if types.is_fixed_size_binary(kind) else 1


def is_number(kind: Any) -> bool:
    """Return whether the values of a type are numbers or booleans."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def is_text(kind: Any) -> bool:
    """Return whether the values of a type are texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))
