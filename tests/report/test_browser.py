"""The pages in headless Chromium: charts, tables, keys, themes, phones, print, and no request that leaves."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from browsing import NEEDS_BROWSER, drawn, show, until
from report_cases import HOSTILE

import xpnet

pytestmark = NEEDS_BROWSER
KINDS = ("run", "lists", "search", "comparison", "hostile", "reproduction")
MARKS = "path, rect, line, text"


@pytest.mark.guarantee("supply-chain")
@pytest.mark.parametrize("kind", KINDS)
def test_charts_are_drawn_and_nothing_leaves_the_page(browser, pages, kind):
    show(browser, pages[kind])
    figures = drawn(browser, 20 if kind in ("search", "lists") else 6)
    assert figures
    for figure in figures:
        name = figure.get_attribute("data-chart")
        # The picture has given way to the live chart, which has marks and a size.
        assert len(figure.find_elements("css selector", ".plot > svg")) == 0, name
        (svg,) = figure.find_elements("css selector", ".live svg")
        assert len(svg.find_elements("css selector", MARKS)) > 10, name
        assert svg.size["width"] > 250, name
        assert svg.size["height"] > 120, name
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert pages[kind].as_uri() in urls
    assert [url for url in urls if not url.startswith(("data:", pages[kind].as_uri()))] == []
    if kind == "hostile":
        assert browser.execute_script("return document.querySelectorAll('main b, main script').length") == 0
        shown = browser.execute_script("return document.querySelector('main').textContent")
        assert all(name in shown for name in HOSTILE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_needs_no_sideways_scrolling(browser, pages, kind):
    show(browser, pages[kind], width=360)
    drawn(browser, 3)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    widths = browser.execute_script(
        "return [...document.querySelectorAll('main > section > *')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(widths) <= 360


def column(browser, table: str, number: int) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map(r => r.cells[arguments[1]].textContent)",
        table,
        number,
    )


def test_tables_sort_by_click_and_by_key(browser, pages):
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["search"])
    table = "#trials table"
    head = browser.find_elements("css selector", f"{table} th")
    names = [cell.text.split()[0] for cell in head]
    place = names.index("lambda")
    button = head[place].find_element("css selector", "button")
    button.click()
    assert head[place].get_attribute("aria-sort") == "descending"
    values = [float(text) for text in column(browser, table, place)]
    assert values == sorted(values, reverse=True)
    button.send_keys(Keys.ENTER)
    assert head[place].get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in column(browser, table, place)] == sorted(values)
    state = names.index("state")
    head[state].find_element("css selector", "button").send_keys(Keys.SPACE)
    assert column(browser, table, state) == sorted(column(browser, table, state))
    assert head[place].get_attribute("aria-sort") is None
    # A failed trial has no accuracy: it stands last, whichever way.
    accuracy = next(i for i, cell in enumerate(head) if cell.text.startswith("validation accuracy"))
    for _ in range(2):
        head[accuracy].find_element("css selector", "button").click()
        assert column(browser, table, accuracy)[-1] == "-"


def ticks(browser, figure) -> list[str]:
    """Return the words of a chart with their places."""
    code = "t => t.textContent + t.getAttribute('transform')"
    return sorted(
        browser.execute_script(f"return [...arguments[0].querySelectorAll('.live svg text')].map({code})", figure)
    )


def test_charts_zoom_by_buttons_and_tell_what_the_pointer_is_on(browser, pages):
    from selenium.webdriver import ActionChains

    show(browser, pages["lists"])
    figure = drawn(browser, 1)[0]
    before = ticks(browser, figure)
    buttons = {b.get_attribute("aria-label"): b for b in figure.find_elements("css selector", ".zoom button")}
    assert set(buttons) == {"Zoom in", "Zoom out", "Move left", "Move right", "Reset zoom"}
    assert not any(button.is_displayed() for button in buttons.values())
    figure.find_element("css selector", ".zoom summary").click()
    for name in ("Zoom in", "Move right", "Zoom out"):
        last = ticks(browser, figure)
        buttons[name].click()
        until(lambda last=last: ticks(browser, figure) != last, name)
    buttons["Reset zoom"].click()
    until(lambda: ticks(browser, figure) == before, "reset")
    figure.find_element("css selector", ".zoom summary").click()
    assert not buttons["Reset zoom"].is_displayed()
    plot = figure.find_element("css selector", ".live svg")
    ActionChains(browser).move_to_element(plot).move_by_offset(3, 3).perform()
    until(lambda: browser.find_elements("css selector", "#vg-tooltip-element.visible"), "the tooltip")
    told = browser.find_element("css selector", "#vg-tooltip-element").text
    assert "epoch" in told
    assert "loss" in told


def test_dark_pages_are_dark(browser, pages):
    brightness = "return getComputedStyle(document.body).{}.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    for dark in (False, True):
        show(browser, pages["run"], dark=dark)
        drawn(browser, 1)
        ground = browser.execute_script(brightness.format("backgroundColor"))
        ink = browser.execute_script(brightness.format("color"))
        assert (ground < 120, ink > 600) == (dark, dark)
        label = browser.execute_script("return getComputedStyle(document.querySelector('.live svg text')).fill")
        assert label == browser.execute_script("return getComputedStyle(document.body).color")


def test_print_opens_tables_and_is_light(browser, pages):
    show(browser, pages["run"], dark=True)
    drawn(browser, 1)
    browser.execute_script(
        "addEventListener('beforeprint', "
        "() => { window.closed = document.querySelectorAll('details:not([open]):not(.zoom)').length; });"
    )
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
    until(lambda: browser.execute_script("return window.closed") == 0, "all tables to be open")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script("return document.querySelectorAll('details:not([open]):not(.zoom)').length") == 0
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_scripts_charts_are_pictures(browser, pages):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages["run"])
        pictures = browser.find_elements("css selector", ".plot > svg")
        assert len(pictures) == len(browser.find_elements("css selector", "figure[data-chart]")) >= 6
        for picture in pictures:
            assert picture.size["width"] > 250
            assert len(picture.find_elements("css selector", MARKS)) > 10
        assert not browser.find_elements("css selector", "th button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def boxes(texts) -> list[tuple[str, dict]]:
    return [(text.text, text.rect) for text in texts if text.text]


def overlap(a: dict, b: dict) -> bool:
    """Return whether two boxes share more than a pixel of rounding."""
    return all(
        a[at] + a[size] > b[at] + 1 and b[at] + b[size] > a[at] + 1 for at, size in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("installed", [True, False])
def test_words_of_pictures_do_not_touch_whatever_the_font(browser, pages, tmp_path, installed):
    text = pages["comparison"].read_text()
    fonts = '"Liberation Sans",Arimo,Arial,Helvetica,'
    assert text.count(fonts) == 1
    page = tmp_path / "page.html"
    page.write_text(text if installed else text.replace(fonts, '"DejaVu Sans",'))
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, page)
        pictures = browser.find_elements("css selector", ".plot > svg")
        assert len(pictures) == 5
        for picture in pictures:
            found = boxes(picture.find_elements("css selector", "text"))
            assert len(found) >= 8
            touching = [(a, b) for i, (a, x) in enumerate(found) for b, y in found[:i] if overlap(x, y)]
            assert not touching
            # A digit of the fonts that the picture was laid out with is 0.556 of its size wide.
            scale = picture.size["width"] / float(picture.get_dom_attribute("viewBox").split()[2])
            assert scale >= 1  # the picture fills its column
            numbers = [(number, box["width"] / scale) for number, box in found if number.isdigit()]
            assert [w for _, w in numbers] == pytest.approx([0.556 * 12 * len(n) for n, _ in numbers], abs=0.6)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_runs_with_the_names_of_a_minute_are_told_apart_and_fit(browser, pages):
    show(browser, pages["comparison"], width=1200)
    names = {"2026-11-21_19-31-05", "2026-11-21_19-31-17"}
    for figure in drawn(browser):
        assert names <= {text.text for text in figure.find_elements("css selector", ".live text")}
    table = browser.find_element("css selector", "#result .scroll")
    assert int(table.get_property("scrollWidth")) <= int(table.get_property("clientWidth"))
    cells = table.find_elements("css selector", "tbody td:first-child")
    assert {cell.text for cell in cells} == names
    line = browser.execute_script("return parseFloat(getComputedStyle(arguments[0]).lineHeight)", cells[0])
    what = table.find_elements("css selector", "tbody tr:first-child td")[0]
    wrapped = browser.execute_script(
        "const r = document.createRange(); r.selectNodeContents(arguments[0]); return r.getBoundingClientRect().height",
        what,
    )
    assert wrapped < 1.5 * line


def test_live_page_draws_a_run_as_it_trains(browser):
    from xpnet.report.live import LivePage

    data = xpnet.data_from_arrays(np.random.default_rng(0).standard_normal((200, 4)), np.arange(200) % 2)
    config = xpnet.NetworkConfig(inputs=4, classes=2, hidden=(4,))
    seen = []

    class Look(xpnet.Callback):
        def on_epoch_end(self, record) -> None:
            if record.epoch == 1:
                browser.get(page.address)
            words = f"epoch {record.epoch} of 3"
            until(lambda: words in browser.find_element("id", "state").text, words)
            seen.append([len(line.get_attribute("points").split()) for line in lines()])

    def lines() -> list:
        return browser.find_elements("css selector", "#charts polyline")

    with LivePage("A <b>run</b>") as page:
        xpnet.train(xpnet.Network(config), data, xpnet.TrainConfig(epochs=3), callbacks=[page, Look()])
    assert seen == [[epoch] * 5 for epoch in (1, 2, 3)]
    until(lambda: browser.find_element("id", "state").text.startswith("ended"), "the end")
    assert browser.find_element("id", "title").text == "A <b>run</b>"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
