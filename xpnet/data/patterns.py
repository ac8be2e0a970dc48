"""``patterns``: ten kinds of striped cloth, made from a seed, in the shape of CIFAR-10.

A class is a direction and a width of stripes.  The phase of the stripes is random, so the mean image
of a class says nothing about it, and a linear classifier can use only a faint hint in the background colour.  The task
needs a hidden layer that responds to a direction whatever its phase.
"""

from __future__ import annotations

import numpy as np

from xpnet.data.dataset import RawDataset
from xpnet.data.splits import nine_tenths
from xpnet.errors import DataError
from xpnet.utils.rng import Purpose, generator

SIDE = 32
CLASSES = 10
_BLOCK = 500  # rows with a random stream of their own, so that row i does not depend on the number of rows
_DIRECTIONS = 5
_CYCLES = (2.6, 4.6)  # stripes across an image, wide and narrow
_TRAIN, _TEST = 0, 1
_JITTER, _STRETCH = 0.18, 0.14  # spread of direction (radians) and width (log) within a class
_NOISE = 28.0
_CONTRAST = (12.0, 48.0)
_MOST = 1_000_000  # images; they take 3 GB
_HINT = 32.0  # how far the background's mean colour moves with the class

CLASS_NAMES = tuple(
    f"{width} {180 * step // _DIRECTIONS}°" for width in ("wide", "narrow") for step in range(_DIRECTIONS)
)


def patterns(n: int = 10_000, n_test: int = 2_000, seed: int = 0) -> RawDataset:
    """Return `n` images for training and validation and `n_test` for testing.

    Images are (3, 32, 32) in channel planes, flattened to 3072 uint8; classes are balanced and in
    random order.  The first rows are the same whatever `n` is.

    Args:
        n: Images to train and validate with.
        n_test: Images to test with.
        seed: Seed of all images.

    Raises:
        DataError: There would be fewer images than classes, or more than a million.
    """
    for name, count in (("training", n), ("test", n_test)):
        if count < CLASSES:
            raise DataError(f"patterns: {count} {name} images are fewer than its {CLASSES} classes; ask for more")
        if count > _MOST:
            raise DataError(f"patterns: {count:,} {name} images are more than {_MOST:,}; ask for fewer")
    x, labels = _draw(n, seed, _TRAIN)
    x_test, labels_test = _draw(n_test, seed, _TEST)
    return RawDataset(
        name="patterns",
        location=_location(n, n_test, seed),
        x=x,
        labels=labels,
        x_test=x_test,
        labels_test=labels_test,
        class_names=CLASS_NAMES,
        image_shape=(3, SIDE, SIDE),
        default_split=nine_tenths(n),
    )


def _location(n: int, n_test: int, seed: int) -> str:
    if seed:
        return f"patterns:{n}/{n_test} of seed {seed}"  # not a name that load_data knows, since it has no seed
    return "patterns" if (n, n_test) == (10_000, 2_000) else f"patterns:{n}/{n_test}"


def _draw(n: int, seed: int, subset: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.empty((n, 3 * SIDE * SIDE), np.uint8)
    labels = np.empty(n, np.int64)
    for block, start in enumerate(range(0, n, _BLOCK)):
        rows = slice(start, min(start + _BLOCK, n))
        images, kinds = _block(generator(seed, Purpose.PATTERNS, subset, block))
        x[rows] = images[: rows.stop - start]
        labels[rows] = kinds[: rows.stop - start]
    return x, labels


def _block(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a block of images (n, 3072) and their classes."""
    n = _BLOCK
    labels = np.arange(n) % CLASSES
    # Shuffled within each ten rows, so that the first rows are balanced, however many are taken.
    labels = draw.permuted(labels.reshape(-1, CLASSES), axis=1).reshape(-1)
    angle = np.pi * (labels % _DIRECTIONS) / _DIRECTIONS + draw.normal(0, _JITTER, n)
    cycles = np.take(_CYCLES, labels // _DIRECTIONS) * np.exp(draw.normal(0, _STRETCH, n))
    phase = draw.uniform(0, 2 * np.pi, n)
    contrast = draw.uniform(*_CONTRAST, n)
    stripe_colour = 1 + draw.normal(0, 0.35, (n, 3))
    hue = 2 * np.pi * (labels[:, None] / CLASSES + np.arange(3) / 3)
    background = 128 + draw.normal(0, 34, (n, 1)) + draw.normal(0, 22, (n, 3)) + _HINT * np.cos(hue)

    at = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / SIDE * 2 * np.pi
    along_x = (cycles * np.cos(angle)).astype(np.float32)[:, None, None] * at
    along_y = (cycles * np.sin(angle)).astype(np.float32)[:, None, None] * at[:, None]
    wave = np.cos(along_x + along_y + phase.astype(np.float32)[:, None, None])  # (n, 32, 32)
    images = draw.standard_normal((n, 3, SIDE, SIDE), dtype=np.float32)
    images *= np.float32(_NOISE)
    images += wave[:, None] * (contrast[:, None] * stripe_colour).astype(np.float32)[:, :, None, None]
    images += background.astype(np.float32)[:, :, None, None]
    np.rint(images, out=images)
    np.clip(images, 0, 255, out=images)
    return images.astype(np.uint8).reshape(n, -1), labels
