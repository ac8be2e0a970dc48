"""Views of pictures: mirrored, moved, and with a square cut out.

A *row* is a sample and a view of it in one number: its low 32 bits are the sample's number, its high bits the view.
View 0 is the picture as it is, so that the rows of unchanged pictures are the samples' numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.config.training import TrainConfig
from xpnet.utils.philox import below, philox
from xpnet.utils.rng import Purpose, words

Rows64 = NDArray[np.int64]

# Bits of a view: flip 1, rows and columns moved 6 each (two's complement), row and column of a cutout 9 each.
_SAMPLE, _FLIP, _DOWN, _RIGHT, _ROW, _COLUMN = 0, 32, 33, 39, 45, 54
_MOVE, _PLACE = 6, 9
_SAMPLES = (1 << 32) - 1


class View(NamedTuple):
    """What is done to pictures, for each of some rows.

    Attributes:
        flip: Whether the picture is mirrored, after it is moved.
        down, right: Pixels by which it is moved; negative numbers move it up and to the left.
        row, column: The centre of the square that is cut out of it, after all this; -1 for none.
    """

    flip: Any
    down: Any
    right: Any
    row: Any
    column: Any


def samples_of(rows: Any) -> Any:
    """Return the samples of rows."""
    return rows & _SAMPLES


def row_of(samples: Any, view: View) -> Any:
    """Return the rows of samples in a view; see :class:`View` for its ranges."""
    moves = ((move & ((1 << _MOVE) - 1)) << at for move, at in ((view.down, _DOWN), (view.right, _RIGHT)))
    places = ((place + 1) << at for place, at in ((view.row, _ROW), (view.column, _COLUMN)))
    return samples | (view.flip << _FLIP) | sum(moves) | sum(places)


def with_samples(rows: Any, samples: Any) -> Any:
    """Return rows of other samples, in the views of `rows`."""
    return rows - samples_of(rows) + samples


def view_of(rows: Any) -> View:
    """Return the view of rows (n,), an array of int64 of any array module."""

    def bits(at: int, count: int) -> Any:
        return (rows >> at) & ((1 << count) - 1)

    half = 1 << (_MOVE - 1)
    down, right = (((bits(at, _MOVE) + half) & (2 * half - 1)) - half for at in (_DOWN, _RIGHT))
    return View(bits(_FLIP, 1), down, right, bits(_ROW, _PLACE) - 1, bits(_COLUMN, _PLACE) - 1)


class Augmentation(NamedTuple):
    """How the pictures of an epoch are changed at random; see :class:`xpnet.TrainConfig`.

    Attributes:
        flip: ``"none"``, ``"random"`` or ``"alternating"``.
        shift: Pixels by which pictures are moved at most.
        cutout: Side of the square that is cut out; 0 for none.
        height, width: Size of the pictures.
    """

    flip: str
    shift: int
    cutout: int
    height: int
    width: int

    @classmethod
    def of(cls, config: TrainConfig, image_shape: tuple[int, int, int] | None) -> Augmentation | None:
        """Return the augmentation of a training's settings for pictures (channels, height, width); None for none."""
        if not config.augments or image_shape is None:
            return None
        return cls(config.flip, config.shift, config.cutout, *image_shape[1:])

    def rows(self, samples: Rows64, seed: int, epoch: int) -> Rows64:
        """Return samples with their views of an epoch.

        A view is a function of seed, epoch and sample: it does not depend on the order of the samples.

        Args:
            samples: Numbers of samples (n,).
            seed: Seed of the views.
            epoch: The epoch, from 0.
        """
        key = words(seed, Purpose.VIEWS)
        sample = samples.astype(np.uint32)
        one, down, right, place = philox((sample, epoch, 0, 0), key)
        flip = (one & 1).astype(np.int64)
        if self.flip == "none":
            flip = np.zeros_like(flip)
        elif self.flip == "alternating":
            always, *_ = philox((sample, 0, 1, 0), key)
            flip = (always.astype(np.int64) + epoch) & 1
        moved = 2 * self.shift + 1
        row: Any = -1
        column: Any = -1
        if self.cutout:
            row = below(place, self.height)
            column = below(philox((sample, epoch, 2, 0), key)[0], self.width)
        view = View(flip, below(down, moved) - self.shift, below(right, moved) - self.shift, row, column)
        return np.asarray(row_of(samples, view))


def evaluated_views(count: int) -> list[int]:
    """Return the views over which probabilities are averaged, as the high bits of rows; see `TrainConfig.views`."""
    moves = {1: (0,), 2: (0,), 6: (0, -1, 1)}[count]
    flips = (0,) if count == 1 else (0, 1)
    return [int(row_of(0, View(flip, move, move, -1, -1))) for move in moves for flip in flips]
