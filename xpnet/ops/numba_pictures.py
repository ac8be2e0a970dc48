"""Compiled gathers of pictures in views; :func:`xpnet.data.transformed_rows.transformed` defines what they compute."""

from __future__ import annotations

import numpy as np

from xpnet.ops.numba_intrinsics import compiled, prefetch, span

# Pixels beside a line for what a move brings in: as many as a view can move.
_ROOM = 32
_USUAL_WIDTH = 32


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

    If `apart`, out and odd_out (n, d' / 2) get the sums and the differences of the left and the mirrored right halves:
    so a picture and its mirror image differ by the sign of the differences alone.
    """
    if shape[2] == _USUAL_WIDTH:  # loops of a known length take half the time
        _gather_halved(rows, x, shape, _USUAL_WIDTH, constant, whole, rest, factor, out, odd_out, apart)
    else:
        _gather_halved(rows, x, shape, shape[2], constant, whole, rest, factor, out, odd_out, apart)


@compiled
def _gather_halved(rows, x, shape, width, constant, whole, rest, factor, out, odd_out, apart):
    channels, height, _ = shape
    n, lines, cells, room = len(rows), height // 2, width // 2, width + 2 * _ROOM
    share, size = out.dtype.type(0.25), x.shape[1]
    pairs = np.zeros(channels * lines * room, np.uint16)  # of two lines each
    target, scaled = np.empty(channels * lines * cells, np.uint16), np.empty(channels * lines * cells, out.dtype)
    for i in range(n):
        source = x[rows[i] & 0xFFFFFFFF]
        if i + 1 < n:
            prefetch(x.ctypes.data + (rows[i + 1] & 0xFFFFFFFF) * size, size)
        flip, down, right = _moves(rows[i])
        line = 0
        for c in range(channels):
            for y in range(lines):
                _add_lines(source, c * height, 2 * y - down, height, width, constant, pairs, line * room, right)
                line += 1
        # A loop of its own: a line that is read right after its border was written would have to wait for it.
        for line in range(channels * lines):
            moved, to = span(pairs, line * room + _ROOM - right, width), span(target, line * cells, cells)
            if flip and not apart:
                for j in range(cells):
                    to[cells - 1 - j] = moved[2 * j] + moved[2 * j + 1]
            else:
                for j in range(cells):
                    to[j] = moved[2 * j] + moved[2 * j + 1]
        into = scaled if apart else out[i]
        for j in range(len(target)):
            into[j] = (out.dtype.type(target[j]) * share - whole[j] - rest[j]) * factor[j]
        if apart:
            sign, half = out.dtype.type(-1 if flip else 1), cells // 2
            for line in range(channels * lines):
                cell, sums = span(scaled, line * cells, cells), span(out[i], line * half, half)
                differences = span(odd_out[i], line * half, half)
                for j in range(half):
                    sums[j] = cell[j] + cell[cells - 1 - j]
                    differences[j] = (cell[j] - cell[cells - 1 - j]) * sign


@compiled
def _add_lines(source, first, top, height, width, constant, pairs, start, right):
    """Write the sums of the lines `top` and `top` + 1 of a channel into pairs, and those beyond the border."""
    upper = span(source, (first + _reflected(top, height)) * width, width)
    lower = span(source, (first + _reflected(top + 1, height)) * width, width)
    inner = span(pairs, start + _ROOM, width)
    if constant and (top < -1 or top >= height):
        inner[:] = 0
    elif constant and (top == -1 or top == height - 1):
        only = lower if top == -1 else upper
        for j in range(width):
            inner[j] = only[j]
    else:
        for j in range(width):
            inner[j] = np.uint16(upper[j]) + np.uint16(lower[j])
    # Pixel -k is pixel k, and pixel width - 1 + k is pixel width - 1 - k.
    line = span(pairs, start, width + 2 * _ROOM)
    for k in range(1, right + 1):
        line[_ROOM - k] = 0 if constant else line[_ROOM + k]
    for k in range(1, 1 - right):
        line[_ROOM + width - 1 + k] = 0 if constant else line[_ROOM + width - 1 - k]


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
