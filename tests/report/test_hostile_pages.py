"""Whatever stands in a stranger's folder stays text: on pages, in their charts, and in figures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from page_checks import charts_of, check_whole, page_of
from report_cases import HOSTILE, hostile, search

import xpnet
from xpnet.config.settings import read_config
from xpnet.report.render import drawable, png, quoted, svg

pytestmark = [pytest.mark.guarantee("untrusted"), pytest.mark.pictures]
WORDS = "".join(HOSTILE) + "<svg onload=alert(3)>\x1b[31m]]>&amp;<!--"


def poisoned(found: Any, keep: tuple[str, ...] = ()) -> Any:
    """Return what a file holds with hostile words behind every text but those of `keep`."""
    if isinstance(found, dict):
        return {key: value if key in keep else poisoned(value, keep) for key, value in found.items()}
    if isinstance(found, list):
        return [poisoned(value, keep) for value in found]
    return found + WORDS if isinstance(found, str) else found


def check_text(folder: Path) -> tuple[str, str]:
    """Make the page of a folder; nothing of the hostile words is HTML there. Return its HTML and what it shows."""
    text, tags = page_of(folder)
    check_whole(text, tags)
    assert not tags.all("b")
    assert len(tags.all("script")) == 3
    shown = "".join(tags.text)
    assert "<script>alert(1)</script>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "onload" not in {key for _, attributes in tags.tags for key in attributes}
    return text, shown


@pytest.mark.parametrize("data", ["", pytest.param(f"<img src=x onerror=alert(4)>{WORDS}", marks=pytest.mark.slow)])
def test_a_run_all_of_whose_texts_are_hostile(data):
    folder = hostile(Path("a <b>run"))
    for name in ("environment.json", "metrics.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(poisoned(content)))
    settings = read_config(folder)
    (folder / "config.toml").write_text(tomli_w.dumps(settings | {"data": data or settings["data"]}))
    text, shown = check_text(folder)
    assert [words for words in (*HOSTILE, "a <b>run", data.removesuffix(WORDS)) if words not in shown] == []
    if not data:
        assert {row["t"] for row in charts_of(text)["confusion"]["data"]["values"]} == set(HOSTILE)


@pytest.mark.slow
def test_a_search_all_of_whose_texts_are_hostile():
    folder = search(Path("found"))
    content = json.loads((folder / "search.json").read_text())
    poison = poisoned(content, keep=("kind", "winner", "state"))
    (folder / "search.json").write_text(json.dumps(poison))
    check_text(folder)


@pytest.mark.slow
def test_a_reproduction_all_of_whose_texts_are_hostile():
    everything = json.loads((Path(__file__).parents[2] / "docs" / "reproduction" / "results.json").read_text())
    chosen = {name: everything[name] | {"cells": everything[name]["cells"][:2]} for name in list(everything)[:3]}
    Path("r").mkdir()
    Path("r/results.json").write_text(json.dumps(poisoned(chosen, keep=("name",))))
    Path("r/environment.json").write_text(json.dumps({"cpu": WORDS, "command": WORDS}))
    check_text(Path("r"))


def test_control_characters_do_not_end_the_process():
    """What draws the charts aborts over text that XML cannot hold."""
    words = "a\x1b[31m\0\x07\x85\ufffe"
    chart = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": words,
        "data": {"values": [{"x": 0, "s": words}]},
        "mark": "point",
        "encoding": {
            "x": {"field": "x", "type": "ordinal", "axis": {"labelExpr": f"[{quoted(words)}][datum.value]"}},
            "y": {"field": "s", "type": "nominal", "title": words},
        },
    }
    text = svg(chart)
    shown = "".join(ET.fromstring(text).itertext())
    assert shown.count("a\u241b[31m\u2400\u2407") == 4
    assert png(text, 1).startswith(b"\x89PNG")
    assert drawable({"a\tb": ["naïve 猫\n"]}) == {"a\tb": ["naïve 猫\n"]}


@pytest.mark.slow
def test_figures_are_svg_without_scripts_and_control_characters():
    folder = hostile(Path("run"), suffix="\x1b[31m\0\x07")
    report = xpnet.write_report(folder, out="page.html", figures="figures")
    pictures = [path for path in report.figures if path.suffix == ".svg"]
    assert pictures
    assert "\x1b" not in report.page.read_text()
    for path in pictures:
        for element in ET.fromstring(path.read_text()).iter():
            kind = element.tag.rpartition("}")[2]
            assert kind not in ("script", "foreignObject", "image", "iframe", "a", "use"), path
            assert not any(key.startswith("on") or key.endswith("href") for key in element.attrib), path
