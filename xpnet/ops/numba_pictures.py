"""Compiled gathers of pictures in views; :func:`xpnet.data.transformed_rows.transformed` defines what they compute."""

from __future__ import annotations

import numpy as np

from xpnet.ops.numba_intrinsics import compiled, prefetch

# Pixels beside a line for what a move brings in: as many as a view can move.
_ROOM = 32


@compiled
def _moves(row):
    """Return whether a row's picture is mirrored, and by how many pixels it is moved down and to the right."""
    down, right = (row >> 33) & 63, (row >> 39) & 63
    return (row >> 32) & 1, down - 64 * (down >> 5), right - 64 * (right >> 5)


@compiled
def _reflected(place, size):
    """Return the place in a picture that its mirror image beyond the border shows."""
    place = abs(place)
    return place if place < size else 2 * (size - 1) - place


@compiled
def gather_pictures(rows, x, shape, pool, constant, whole, rest, factor, out):
    """Write the standardised pixels, or means of squares of pixels, of `rows` (n,) of x (N, d) into out (n, d').

    The pixels of a line are added up in a buffer with _ROOM for a moved picture's border on both sides, mirrored if the
    view is.
    """
    channels, height, width = shape
    n, samples = len(rows), x.shape[1]
    lines, cells = height // pool, width // pool
    line = np.zeros(width + 2 * _ROOM, out.dtype)
    inner = line[_ROOM : _ROOM + width]
    share = out.dtype.type(1 / (pool * pool))
    base, size = x.ctypes.data, samples * x.itemsize
    for i in range(n):
        row = rows[i]
        source, target = x[row & 0xFFFFFFFF], out[i]
        if i + 1 < n:
            prefetch(base + (rows[i + 1] & 0xFFFFFFFF) * size, size)
        flip, down, right = _moves(row)
        start = _ROOM + right if flip else _ROOM - right
        for c in range(channels):
            for y in range(lines):
                for k in range(pool):
                    place = y * pool + k - down
                    outside = place < 0 or place >= height
                    place = _reflected(place, height)
                    pixels = source[(c * height + place) * width : (c * height + place + 1) * width]
                    if outside and constant:
                        if k == 0:
                            inner[:] = 0
                    elif flip:
                        if k == 0:
                            for j in range(width):
                                inner[j] = pixels[width - 1 - j]
                        else:
                            for j in range(width):
                                inner[j] += pixels[width - 1 - j]
                    elif k == 0:
                        for j in range(width):
                            inner[j] = pixels[j]
                    else:
                        for j in range(width):
                            inner[j] += pixels[j]
                for k in range(abs(right)):
                    line[_ROOM - 1 - k] = 0 if constant else line[_ROOM + 1 + k]
                    line[_ROOM + width + k] = 0 if constant else line[_ROOM + width - 2 - k]
                moved = line[start : start + width]
                at = (c * lines + y) * cells
                a, b, f, to = (
                    whole[at : at + cells],
                    rest[at : at + cells],
                    factor[at : at + cells],
                    target[at : at + cells],
                )
                if pool == 1:
                    for j in range(cells):
                        to[j] = (moved[j] - a[j] - b[j]) * f[j]
                elif pool == 2:
                    for j in range(cells):
                        to[j] = ((moved[2 * j] + moved[2 * j + 1]) * share - a[j] - b[j]) * f[j]
                else:
                    for j in range(cells):
                        total = moved[j * pool]
                        for k in range(1, pool):
                            total += moved[j * pool + k]
                        to[j] = (total * share - a[j] - b[j]) * f[j]


@compiled
def gather_halved(rows, x, shape, constant, whole, rest, factor, out, odd_out, apart):
    """Write the standardised means of squares of 2 x 2 pixels of bytes: :func:`gather_pictures` for `pool` = 2.

    If `apart`, out and odd_out (n, d' / 2) get the sums and the differences of the left and the mirrored right halves.

    The sums of two lines are kept as their even and their odd pixels, which are read side by side whatever the move,
    without a stride.
    """
    channels, height, width = shape
    n, lines, cells, room = len(rows), height // 2, width // 2, _ROOM // 2
    even, odd = np.zeros(cells + 2 * room, out.dtype), np.zeros(cells + 2 * room, out.dtype)
    inner_even, inner_odd = even[room : room + cells], odd[room : room + cells]
    share, size = out.dtype.type(0.25), x.shape[1]
    target = np.empty(channels * lines * cells, out.dtype)
    for i in range(n):
        source = x[rows[i] & 0xFFFFFFFF]
        if i + 1 < n:
            prefetch(x.ctypes.data + (rows[i + 1] & 0xFFFFFFFF) * size, size)
        flip, down, right = _moves(rows[i])
        half = right >> 1
        first, second = (odd, even) if right & 1 else (even, odd)
        begin = room - half - (right & 1)
        first, second = first[begin : begin + cells], second[room - half : room - half + cells]
        for line in range(channels * lines):
            c = line // lines
            top = 2 * (line - c * lines) - down
            a, b = (c * height + _reflected(top, height)) * width, (c * height + _reflected(top + 1, height)) * width
            upper, lower = source[a : a + width], source[b : b + width]
            if constant and (top < -1 or top >= height):
                inner_even[:] = 0
                inner_odd[:] = 0
            elif constant and (top == -1 or top == height - 1):
                only = lower if top == -1 else upper
                for j in range(cells):
                    inner_even[j] = only[2 * j]
                    inner_odd[j] = only[2 * j + 1]
            else:
                for j in range(cells):
                    inner_even[j] = np.uint16(upper[2 * j]) + np.uint16(lower[2 * j])
                    inner_odd[j] = np.uint16(upper[2 * j + 1]) + np.uint16(lower[2 * j + 1])
            # Pixel -k is pixel k, and pixel width - 1 + k is pixel width - 1 - k.
            for k in range(1, abs(right) + 1):
                if k & 1:
                    odd[room - (k + 1) // 2] = 0 if constant else odd[room + (k - 1) // 2]
                    even[room + cells + (k - 1) // 2] = 0 if constant else even[room + cells - (k + 1) // 2]
                else:
                    even[room - k // 2] = 0 if constant else even[room + k // 2]
                    odd[room + cells - 1 + k // 2] = 0 if constant else odd[room + cells - 1 - k // 2]
            to = target[line * cells : (line + 1) * cells]
            if flip:
                for j in range(cells):
                    to[cells - 1 - j] = first[j] + second[j]
            else:
                for j in range(cells):
                    to[j] = first[j] + second[j]
        if not apart:
            z = out[i]
            for j in range(len(target)):
                z[j] = (target[j] * share - whole[j] - rest[j]) * factor[j]
            continue
        for j in range(len(target)):
            target[j] = (target[j] * share - whole[j] - rest[j]) * factor[j]
        for line in range(channels * lines):
            z, at = target[line * cells : (line + 1) * cells], line * (cells // 2)
            sums, differences = out[i][at : at + cells // 2], odd_out[i][at : at + cells // 2]
            for j in range(cells // 2):
                sums[j] = z[j] + z[cells - 1 - j]
                differences[j] = z[j] - z[cells - 1 - j]


@compiled
def cut_out(rows, shape, pool, side, out):
    """Set the inputs (n, d') whose centres lie in the square that their rows cut out to 0."""
    channels, height, width = shape
    lines, cells = height // pool, width // pool
    for i in range(len(rows)):
        row, column = ((rows[i] >> 45) & 511) - 1, ((rows[i] >> 54) & 511) - 1
        if row < 0:
            continue
        for y in range(lines):
            if not -side <= 2 * (y * pool - row) + pool - 1 < side:
                continue
            for j in range(cells):
                if -side <= 2 * (j * pool - column) + pool - 1 < side:
                    for c in range(channels):
                        out[i, (c * lines + y) * cells + j] = 0
