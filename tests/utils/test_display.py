"""Objects are one line of text, and in notebooks a piece of HTML that needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import xpnet
from xpnet.utils.display import box, chart, mean_and_spread


@pytest.fixture(scope="module")
def things():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    data = xpnet.data_from_arrays(rng.standard_normal((90, 4)) + labels[:, None], labels, class_names=["<a>", "b", "c"])
    config = xpnet.NetworkConfig(inputs=4, hidden=(5,), classes=3)
    network = xpnet.Network(config, seed=(1, 2))
    result = xpnet.train(network, data, xpnet.TrainConfig(epochs=3, batch_size=10))
    search = xpnet.search("lambda", data, settings={"hidden": (3,), "cycles": 1, "n_s": "1ep"}, trials=2)
    return {
        "Network": network,
        "TrainResult": result,
        "History": result.history,
        "Dataset": data,
        "GradcheckReport": xpnet.gradcheck(config, np.ones((3, 4)), np.array([0, 1, 2])),
        "SearchResult": search,
    }


LINES = {
    "Network": r"Network\(4-5-3 with BN, replicas=2, parameters=48, dtype=float32, device=cpu, classes=<a>, b, c\)",
    "TrainResult": r"TrainResult\(test_accuracy=0\.\d{4} ± 0\.\d{4} \(2 networks\), .*epochs=3, steps=24, device=cpu\)",
    "History": r"History\(epochs=3, steps=24, train_loss=\d\.\d{4} ± .*validation_accuracy=.*\)",
    "Dataset": r"Dataset\(arrays, samples=73 train, 8 validation, 9 test, features=4, inputs=4, classes=3\)",
    "GradcheckReport": r"GradcheckReport\(passed, checked=48 of 48, worst_relative_error=\d\.\de-\d\d in \w+\)",
    "SearchResult": r"SearchResult\(trials=2, complete=2, best=lambda = [-\d.e]+, score=0\.\d{4}\)",
}


@pytest.mark.parametrize("name", LINES)
def test_object_is_one_line_of_text(things, name):
    assert re.fullmatch(LINES[name], repr(things[name])), repr(things[name])


class Nested(HTMLParser):
    """Checks that elements are closed in turn, and names no address."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)


@pytest.mark.parametrize("name", LINES)
def test_object_is_html_that_needs_nothing_else(things, name):
    text = things[name]._repr_html_()
    assert f"<strong>{name}" in text
    assert ("svg" in Nested(text).seen) == (name in ("TrainResult", "History", "SearchResult"))
    assert "<a>" not in text


def test_chart_leaves_out_values_that_are_not_finite():
    assert chart({"loss": [np.nan]}) == ""
    text = chart({"loss": [1.0, np.nan, 3.0], "flat": [np.inf]})
    assert text.count("<polyline") == 1
    assert 'points="8.0,112.0 352.0,8.0"' in text
    assert "</svg> loss, from 1 to 3" in text
    assert 'role="img" aria-label="Curves of loss, from 1 to 3"' in text
    assert "&lt;b&gt;" in box("<b>", {}, {})


def test_figures_of_several_networks_are_mean_and_deviation():
    assert mean_and_spread([0.5]) == "0.5000"
    assert mean_and_spread([1.0, 2.0, float("nan")]) == "1.5000 ± 0.7071 (3 networks)"
    assert mean_and_spread([float("nan")]) == "unknown"
