"""What every page must be."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import xpnet
from xpnet.report.packing import unpack


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
    return json.loads(unpack(re.search(r'id="charts">([^<]+)<', text)[1]))["specs"]


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
