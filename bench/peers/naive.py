"""The loop that a course asks for: NumPy in float64, every equation a line, nothing reused."""

from __future__ import annotations

import numpy as np

from bench.problem import CLASSES, LAM, Problem, layers

BN_EPS = 1e-5


class Loop:
    """Forward, backward and update with fresh arrays everywhere."""

    def __init__(self, problem: Problem) -> None:
        x, labels = problem.data()
        self._x, self._labels = x.astype(np.float64), labels
        self._p = {name: a[0].astype(np.float64) for name, a in problem.initial().items()}
        self._batch_norm = problem.batch_norm

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss."""
        return float(np.mean([self._step(rows, rate) for rows, rate in zip(perm, eta, strict=True)]))

    def _step(self, rows: np.ndarray, eta: float) -> float:
        p, last, n = self._p, len(layers(self._p)), len(rows)
        x, Y = self._x[rows], np.eye(CLASSES)[self._labels[rows]]
        inputs, kept = [x], {}
        for k in range(1, last):
            s = x @ p[f"W{k}"]
            if self._batch_norm:
                mean, var = s.mean(axis=0), s.var(axis=0)
                s_hat = (s - mean) / np.sqrt(var + BN_EPS)
                kept[k] = (s_hat, var)
                x = np.maximum(0, p[f"gamma{k}"] * s_hat + p[f"beta{k}"])
            else:
                x = np.maximum(0, s + p[f"b{k}"])
            inputs.append(x)
        scores = x @ p[f"W{last}"] + p[f"b{last}"]
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        P = e / e.sum(axis=1, keepdims=True)
        loss = -np.log((P * Y).sum(axis=1)).mean()

        g, gradients = (P - Y) / n, {}
        for k in range(last, 0, -1):
            if k < last:
                g = g * (inputs[k] > 0)
                if self._batch_norm:
                    s_hat, var = kept[k]
                    gradients[f"gamma{k}"] = (g * s_hat).sum(axis=0)
                    gradients[f"beta{k}"] = g.sum(axis=0)
                    g = g * p[f"gamma{k}"]
                    g = (g - g.mean(axis=0) - s_hat * (g * s_hat).mean(axis=0)) / np.sqrt(var + BN_EPS)
            gradients[f"W{k}"] = inputs[k - 1].T @ g + 2 * LAM * p[f"W{k}"]
            if f"b{k}" in p:
                gradients[f"b{k}"] = g.sum(axis=0)
            g = g @ p[f"W{k}"].T
        for name, gradient in gradients.items():
            p[name] = p[name] - eta * gradient
        return float(loss)

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [p for name, p in self._p.items() if name.startswith("W")]
