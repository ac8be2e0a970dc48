"""Inputs of a network computed pixel by pixel from their definition, in plain Python."""

from __future__ import annotations

from typing import Any


def pixel(picture: Any, y: int, x: int, border: str) -> float:
    """Return a pixel of a picture (height, width), which goes on beyond its border."""
    height, width = len(picture), len(picture[0])
    inside = 0 <= y < height and 0 <= x < width
    if not inside and border == "constant":
        return 0.0
    while not (0 <= y < height and 0 <= x < width):
        y, x = (-y if y < 0 else y), (-x if x < 0 else x)
        y = 2 * (height - 1) - y if y >= height else y
        x = 2 * (width - 1) - x if x >= width else x
    return float(picture[y][x])


def seen(picture: Any, view: Any, border: str) -> list[list[float]]:
    """Return a picture (height, width), first moved and then mirrored."""
    height, width = len(picture), len(picture[0])
    moved = [
        [pixel(picture, y - int(view.down), x - int(view.right), border) for x in range(width)] for y in range(height)
    ]
    return [line[::-1] for line in moved] if view.flip else moved


def inputs(
    planes: Any, view: Any, border: str, pool: int, mean: Any, std: Any, cutout: int, projection: Any
) -> list[float]:
    """Return the inputs of one sample, from its planes (channels, height, width)."""
    z = []
    for picture in planes:
        picture = seen(picture, view, border)
        for top in range(0, len(picture), pool):
            for left in range(0, len(picture[0]), pool):
                square = [picture[top + i][left + j] for i in range(pool) for j in range(pool)]
                value = (sum(square) / pool**2 - mean[len(z)]) / std[len(z)]
                centre = top + (pool - 1) / 2, left + (pool - 1) / 2
                apart = centre[0] - view.row, centre[1] - view.column
                far = any(not -cutout / 2 <= distance < cutout / 2 for distance in apart)
                z.append(value if view.row < 0 or far else 0.0)
    if projection is None:
        return z
    return [sum(z[i] * projection[i][k] for i in range(len(z))) for k in range(len(projection[0]))]
