"""Single images: opened, checked against limits, and decoded in little more memory than their pixels take."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.readers.safe_pickle import printable
from xpnet.utils.extras import need
from xpnet.utils.file_system import open_regular

# The usual formats of photographs, whose decoders start no other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
_MOST_PIXELS = 50_000_000
_LONGEST_SIDE = 1_000_000  # Pillow stores the offset of every row, and weights for every pixel of a row
# Pixels that are converted at a time.
_STRIP = 2**20
# By Exif orientation, the operation of Pillow's Transpose that turns a photograph upright; the operations that turn
# rows into columns; and those that reverse the order of the rows.
_ORIENTATION = 0x0112
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SIDEWAYS, _BACKWARDS = (5, 4, 6, 2), (3, 1, 6, 2)


@dataclass(frozen=True)
class Form:
    """The form that images are converted to: (channels, height, width)."""

    channels: int
    height: int
    width: int


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Any]:
    """Open an image with Pillow.

    Raises:
        ValueError: It cannot be opened; the message is a short reason.
        MissingExtraError: Pillow is not installed.
    """
    need("images", f"{path}: reading an image")
    from PIL import Image

    try:
        file = open_regular(path, links=True)
    except OSError as error:
        raise ValueError(error.strerror) from None
    with file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images, which are refused below, and about odd metadata
            try:
                image = Image.open(file, formats=_FORMATS)
                _check_sides(image)
            except Exception as error:
                raise ValueError(_reason(error)) from None
        with contextlib.closing(image):
            yield image


def _check_sides(image: Any) -> None:
    width, height = image.size
    if width * height > _MOST_PIXELS or max(width, height) > _LONGEST_SIDE:
        raise ValueError(f"{width:,} x {height:,} pixels")
    # A tile of TIFF is unpacked in one piece.
    across, down = (int(getattr(image, "tag_v2", {}).get(tag, 0)) for tag in (322, 323))
    if across * down > max(width * height, _STRIP):
        raise ValueError(f"tiles of {across:,} x {down:,} pixels")


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if name == "UnidentifiedImageError":
        return "no image"
    if name == "DecompressionBombError":
        return "too many pixels"
    return printable(" ".join(str(error).split())) or name


def decode(path: Path, form: Form, deep: list[Path] | None = None) -> NDArray[np.uint8]:
    """Return an image in channel planes, flat: turned upright, in the size and the colours of `form`.

    Args:
        path: A file in any of the usual formats.
        form: Channels, height and width; an image of another shape is stretched.
        deep: A list that the path is appended to if the image has more than 8 bits a channel; the upper 8 are taken.

    Raises:
        ValueError: It cannot be read; the message is a short reason.
    """
    with open_image(path) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        is_deep = _is_deep(image)
        try:
            if image.format == "JPEG" and min(image.size) > 2 * max(form.height, form.width):
                image.draft(None, (2 * form.width, 2 * form.height))  # decoded at a fraction of its size
            image.load()
            planes = _planes(_converted(image, form))
        except Exception as error:
            raise ValueError(_reason(error)) from None
    if is_deep and deep is not None:
        deep.append(path)
    return planes


def _is_deep(image: Any) -> bool:
    """Return whether an image that has not been loaded has more than 8 bits a channel in its file."""
    if image.mode.startswith("I"):
        return True
    for codec, *_, arguments in image.tile:
        # Pillow itself takes the upper 8 bits of colours; BGR;16 are three channels in 16 bits.
        numbers = [value for value in arguments if isinstance(value, int)] if codec == "ppm" else []
        if re.search("(?<!BGR);16", str(arguments)) or max(numbers, default=0) > 255:
            return True
    return False


def _converted(image: Any, form: Form) -> Any:
    """Return an image turned upright, in the colours and the size of `form`.

    A large image is converted a strip of rows at a time, so that it is in memory once. Pillow resizes rows before
    columns, so that strips give the same values.
    """
    from PIL import Image

    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    sideways, backwards = turn is not None and turn in _SIDEWAYS, turn is not None and turn in _BACKWARDS
    width, height = image.size[::-1] if sideways else image.size
    if form.width * height > width * height + 4 * form.width * form.height + _STRIP:
        raise ValueError(f"{width:,} x {height:,} pixels")
    mode = "L" if form.channels == 1 else "RGB"
    rows = max(1, _STRIP // width)
    narrow: Any = None
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        strip = image
        if rows < height:
            low, high = (height - stop, height - start) if backwards else (start, stop)
            strip = image.crop((low, 0, high, width) if sideways else (0, low, width, high))
        strip = _coloured(strip if turn is None else strip.transpose(turn), mode)
        if width > form.width:
            strip = strip.resize((form.width, stop - start), Image.Resampling.BILINEAR)
        if rows >= height:
            narrow = strip
        else:
            narrow = narrow or Image.new(mode, (min(width, form.width), height))
            narrow.paste(strip, (0, start))
    if narrow.size != (form.width, form.height):
        narrow = narrow.resize((form.width, form.height), Image.Resampling.BILINEAR)
    return narrow


def image_size_of(path: Path) -> tuple[int, int]:
    """Return height and width of an image as it is shown.

    Raises:
        ValueError: It cannot be read; the message is a short reason.
    """
    with open_image(path) as image:
        turned = False
        with contextlib.suppress(Exception):
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
        width, height = image.size
        return (width, height) if turned else (height, width)


def resized(planes: NDArray[np.uint8], form: Form) -> NDArray[np.uint8]:
    """Return an image in channel planes (channels, height, width) in another form, flat.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    need("images", f"images: converting them to {form.width} x {form.height} pixels")
    from PIL import Image

    image = Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)))
    image = _coloured(image, "L" if form.channels == 1 else "RGB")
    return _planes(image.resize((form.width, form.height), Image.Resampling.BILINEAR))


def _planes(image: Any) -> NDArray[np.uint8]:
    values = np.asarray(image, np.uint8)
    return np.ascontiguousarray(values if values.ndim == 2 else values.transpose(2, 0, 1)).reshape(-1)


def _coloured(image: Any, mode: str) -> Any:
    """Return an image in gray or RGB: transparent pixels lie on white, 16 bits become 8."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating pixels, whose range is not known")
    if image.mode.startswith("I"):
        # Gray of 16 bits; Pillow itself would make all above 255 white.
        values = np.asarray(image).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65_535:
            raise ValueError(f"pixels from {low:,} to {high:,}, beyond 16 bits")
        image = Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)
