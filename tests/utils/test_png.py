"""PNG files, read again by Pillow."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from xpnet.utils.png import png


@given(
    st.sampled_from([1, 3]).flatmap(
        lambda channels: arrays.arrays(np.uint8, st.tuples(st.just(channels), st.integers(1, 9), st.integers(1, 9)))
    )
)
def test_png_holds_the_pixels_of_the_picture(planes):
    with Image.open(io.BytesIO(png(planes))) as image:
        found = np.asarray(image)
    assert image.mode == ("L" if len(planes) == 1 else "RGB")
    np.testing.assert_array_equal(found, planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))


def test_png_of_a_smooth_picture_is_smaller_than_its_pixels():
    planes = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[np.newaxis]
    assert len(png(planes)) < planes.size / 10
