"""What every page must be."""

from __future__ import annotations

import base64
import gzip
import html.parser
import json
import re
from pathlib import Path

import xpnet


class Tags(html.parser.HTMLParser):
    """Every element of a page with its attributes, and all text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*folders: str | Path, **options) -> tuple[str, Tags]:
    text = xpnet.write_report(*folders, **options).page.read_text()
    return text, Tags(text)


def charts_of(text: str) -> dict:
    packed = re.search(r'id="charts">([^<]+)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))["specs"]


def check_whole(text: str, tags: Tags) -> None:
    """Check what holds for every page."""
    assert "default-src 'none'" in tags.all("meta")[1]["content"]
    for name, attributes in tags.tags:
        for attribute in ("src", "srcset", "href", "xlink:href", "data", "poster", "action"):
            value = attributes.get(attribute, "data:")
            assert value.startswith(("data:", "#")), f"{name} {attribute} = {value}"
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"""@import|url\(\s*['"]?(?!#|data:)""", text)
    assert all(image["alt"] for image in tags.all("img"))
    plots = [a for a in tags.all("div") if a.get("class") == "plot"]
    assert all(len(plot["aria-label"]) > 20 for plot in plots)
    names = [a["data-chart"] for a in tags.all("figure") if "data-chart" in a]
    assert set(names) == set(charts_of(text))
    assert text.count("<svg") == len(names) > 0
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in tags.all("a")} <= set(ids)


def rows_of(spec: dict, part: dict | None = None) -> list[dict]:
    """Return the rows that a chart draws, or a part of it such as one of its panels."""
    own = part or spec
    names = [own["data"]["name"]] if "data" in own else []
    inner = [
        row for key in ("hconcat", "vconcat", "layer") for piece in own.get(key, ()) for row in rows_of(spec, piece)
    ]
    return [row for name in names for row in spec["datasets"][name]] + inner
