"""Compiled loops over logits: softmax, cross-entropy and label smoothing, as :mod:`xpnet.ops.reference` defines.

Labels are (R, n), or (1, n) for all replicas: arrays of one layout, since each layout is compiled for itself.
"""

from __future__ import annotations

import math

from xpnet.ops.numba_intrinsics import compiled


@compiled
def cross_entropy(s, labels, scale, losses, correct, g):
    R, n, c = s.shape
    for r in range(R):
        mine = labels[r if len(labels) > 1 else 0]
        for i in range(n):
            best = 0
            for j in range(1, c):
                # As argmax: the first largest logit; NaN counts as the largest.
                if s[r, i, j] > s[r, i, best] or (s[r, i, j] != s[r, i, j] and s[r, i, best] == s[r, i, best]):
                    best = j
            top = s[r, i, best]
            total = s.dtype.type(0)
            for j in range(c):
                e = math.exp(s[r, i, j] - top)
                g[r, i, j] = e
                total += e
            label = mine[i]
            losses[r, i] = math.log(total) - (s[r, i, label] - top)
            correct[r, i] = best == label
            factor = scale[r, 0, 0] / total
            for j in range(c):
                g[r, i, j] *= factor
            g[r, i, label] -= scale[r, 0, 0]


@compiled
def shift_logits(s, labels, correct, picked, g):
    """Write s (R, n, c) less the largest logit of each sample to `g`, that of the label to `picked`."""
    R, n, c = s.shape
    for r in range(R):
        mine = labels[r if len(labels) > 1 else 0]
        for i in range(n):
            row, target = s[r, i], g[r, i]
            best = 0
            top = row[0]
            for j in range(1, c):
                if row[j] > top or (row[j] != row[j] and top == top):  # as in cross_entropy
                    best = j
                    top = row[j]
            for j in range(c):
                target[j] = row[j] - top
            label = mine[i]
            correct[r, i] = best == label
            picked[r, i] = target[label]


@compiled
def entropy_of_exponentials(labels, scale, picked, losses, g):
    """Complete the cross-entropy, where `g` (R, n, c) has the exponentials of the shifted logits."""
    R, n, c = g.shape
    for r in range(R):
        mine = labels[r if len(labels) > 1 else 0]
        for i in range(n):
            row = g[r, i]
            total = g.dtype.type(0)
            for j in range(c):
                total += row[j]
            losses[r, i] = math.log(total) - picked[r, i]
            factor = scale[r, 0, 0] / total
            for j in range(c):
                row[j] *= factor
            row[mine[i]] -= scale[r, 0, 0]


@compiled
def smooth_labels(s, labels, alpha, scale, losses, g):
    R, n, c = s.shape
    for r in range(R):
        mine = labels[r if len(labels) > 1 else 0]
        each, factor = s.dtype.type(1) / c, scale[r] * alpha[r]
        for i in range(n):
            mean = s.dtype.type(0)
            for j in range(c):
                mean += s[r, i, j]
                g[r, i, j] -= factor * each
            label = mine[i]
            losses[r, i] += alpha[r] * (s[r, i, label] - mean * each)
            g[r, i, label] += factor
