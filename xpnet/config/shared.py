"""Settings and the data's fingerprint in a shared study: the ZIP archive that ``xpnet report --zip`` writes."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError
from xpnet.utils.parsing import MOST_TOML, json_object, opened, toml_of

SUFFIX = ".zip"
# A member with the fingerprint of the data, beside config.toml.
DATA = "data.json"
# Largest archive, and most members of it, that are looked at.
_MOST_BYTES, _MOST_MEMBERS = 512 * 2**20, 10_000
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError)


def is_shared(path: Path) -> bool:
    """Return whether a path names a shared study."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def shared_settings(path: Path, name: str) -> dict[str, Any]:
    """Return the settings of the run in a shared study, from its member `name`.

    Raises:
        ConfigError: The file is no archive, or is damaged, or holds no run or several.
    """
    called = f"config = {path}"
    content = _member(path, name, called)
    if content is None:
        raise ConfigError(f"{called}: holds no {name}; name an archive that xpnet report --zip has written")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{called}: {name} is not text in UTF-8; take another copy of it") from None
    return toml_of(text, ConfigError, f"{called}: {name}")


def shared_data(path: Path) -> dict[str, Any]:
    """Return the fingerprint of the data of a shared study; empty if it has none.

    Raises:
        ConfigError: The file is no archive, or is damaged.
    """
    called = f"config = {path}"
    content = _member(path, DATA, called)
    return {} if content is None else json_object(content, f"{called}: {DATA}", ConfigError)


def _member(path: Path, name: str, called: str) -> bytes | None:
    """Return the content of the only member of an archive with this name in any folder; None if there is none."""
    with opened(path, ConfigError, called, links=True) as (file, size):
        if size > _MOST_BYTES:
            raise ConfigError(f"{called}: is larger than {_MOST_BYTES:,} bytes, the most that is read of such a file")
        try:
            with io.BufferedReader(file) as stream, zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                found = [one for one in members if one.filename.rpartition("/")[2] == name]
                if len(members) > _MOST_MEMBERS or any(one.file_size > MOST_TOML for one in found):
                    raise ConfigError(f"{called}: is larger than a shared study can be")
                if len(found) > 1:
                    raise ConfigError(f"{called}: holds {len(found)} runs; unpack it, and name the folder of one")
                if not found:
                    return None
                with archive.open(found[0]) as member:
                    return member.read(MOST_TOML)
        except _BROKEN as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{called}: is no ZIP archive, or is damaged ({error}); take another copy") from None
