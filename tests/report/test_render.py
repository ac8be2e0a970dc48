"""Drawing in this process or in another one, and errors of the library that draws."""

from __future__ import annotations

import pytest

from xpnet.report import render


@pytest.mark.pictures
def test_png_and_svg_of_another_process_are_the_same(monkeypatch):
    spec = {"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a"}}}
    here = render.pictures(spec, ("png", "svg"), 2)
    monkeypatch.setattr(render, "_limited", lambda: True)
    assert render.pictures(spec, ("png", "svg"), 2) == here


def test_converted_chart_that_another_process_refuses_is_named(monkeypatch):
    monkeypatch.setattr(render, "_limited", lambda: True)
    with pytest.raises(render.DrawingError, match=r"^a chart cannot be drawn \(ValueError: Vega-Lite to SVG"):
        render.converted("vegalite_to_svg", {"mark": 7})


def test_converted_panic_is_an_error_that_can_be_caught(monkeypatch):
    class PanicException(BaseException):
        """As Rust's, which is no Exception."""

    def panic(*_, **__):
        raise PanicException("called `Result::unwrap()` on an `Err` value")

    monkeypatch.setattr("vl_convert.vegalite_to_svg", panic)
    monkeypatch.setattr(render, "_limited", lambda: False)
    with pytest.raises(render.DrawingError, match="a chart cannot be drawn"):
        render.converted("vegalite_to_svg", {})
