"""Text in a page, compressed and written without letters: nothing in it can be taken for HTML, or for a word."""

from __future__ import annotations

import base64
import gzip

# 32 signs, 5 bits each.  Base 64 would be a sixth shorter, but its 400,000 letters hold every short word by chance,
# which whoever searches files for it, for keys or for spelling would find.
SIGNS = "0123456789!#$%()*+,-./:;=?@[]^_{"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def pack(text: str) -> str:
    """Return text compressed by gzip, in ``SIGNS``; the script of the page unpacks it."""
    content = base64.b32encode(gzip.compress(text.encode(), 9, mtime=0)).decode().rstrip("=")
    return content.translate(str.maketrans(_BASE32, SIGNS))


def unpack(packed: str) -> str:
    """Return the text that :func:`pack` was given."""
    content = packed.translate(str.maketrans(SIGNS, _BASE32))
    return gzip.decompress(base64.b32decode(content + "=" * (-len(content) % 8))).decode()
