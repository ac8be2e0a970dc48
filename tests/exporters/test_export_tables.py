"""Exported models of tables: numbers of every scale, booleans, categories and missing cells; and of the estimator."""

from __future__ import annotations

import json
from pathlib import Path

import exported
import numpy as np
import pandas as pd
import pytest
from exported import check, session

import xpnet
from xpnet.errors import ConfigError
from xpnet.exporters.folded import fold
from xpnet.sklearn import XpnetClassifier, rows

N = 400


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Return columns of every kind, some with missing cells; the last rows have what the others do not."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "year": (2000 + 5 * rng.standard_normal(N)).astype(np.float32),
        "new": rng.random(N) < 0.5,
        "colour": rng.choice(["red", "green", "blue", 'x "y"'], N),
        "skewed": np.exp(2 * rng.standard_normal(N)).astype(np.float32),
        "few": rng.integers(0, 3, N).astype(float),
        "constant": 1.0,
        "city": rng.choice([f"c{i}" for i in range(30)], N),
    })  # fmt: skip
    table["target"] = (table.year > 2000).astype(int) + (table.colour == "red")
    table.loc[::9, "skewed"] = np.nan
    table.loc[::11, "colour"] = None
    table.loc[N - 4 :, ["colour", "year", "skewed"]] = [
        ["unknown", 1990, 1], ["red", np.nan, 1], ["blue", 2010, 1e30], ["blue", 2010, -1e30],
    ]  # fmt: skip
    return table


@pytest.mark.parametrize("numeric", ["standard", "robust", "quantile", "ple"])
def test_export_takes_the_columns_of_a_table(frame, numeric):
    x, labels = frame.drop(columns="target"), frame.target
    for members in (1, 3):
        model = XpnetClassifier(hidden=(8,), epochs=2, random_state=0, numeric=numeric, members=members)
        model.fit(x[:300], labels[:300])
        codes = rows.features_of(model, x[300:])
        expected = model.predict_proba(x[300:])
        # The median that stands for a missing year lies between two numbers of float32, which are 1e-4 apart there.
        check(model, codes, expected, tolerance=3e-5)
    module = exported.module_at(next(Path.cwd().glob("exported-*/numpy_model.py")))
    cells = x[300:].astype(object).where(x[300:].notna(), None).to_numpy().tolist()
    np.testing.assert_allclose(module.predict_proba(module.codes(cells)), expected if members == 1 else
                               module.predict_proba(codes), rtol=0, atol=3e-5)  # fmt: skip


def test_exported_table_names_its_columns_and_categories(frame):
    x = frame.drop(columns="target")
    model = XpnetClassifier(hidden=(4,), epochs=1).fit(x, frame.target)
    done = xpnet.export(model, "m.onnx")
    assert any("a category, as in column colour, is its position" in note for note in done.notes)
    meta = {n: json.loads(v) for n, v in session("m.onnx").get_modelmeta().custom_metadata_map.items()}
    assert meta["feature_names"] == list(x.columns)
    assert meta["categories"]["2"] == sorted(["", "red", "green", "blue", 'x "y"', "unknown"])
    xpnet.export(model, "m.npz")
    assert np.load("m.npz")["categories_2"].tolist() == meta["categories"]["2"]


def test_export_of_projected_columns_predicts_as_the_network(frame):
    Path("t.csv").write_text(frame[:300].to_csv(index=False))
    data = xpnet.load_data("t.csv", target="target", pca=3, numeric="robust")
    net = xpnet.Network(xpnet.NetworkConfig(inputs=3, hidden=(16,), classes=data.classes), replicas=3)
    xpnet.train(net, data, xpnet.TrainConfig(epochs=2, batch_size=50))
    assert "projection" in fold(net).steps()
    check(net, data.test.x[:])


def test_members_keep_their_weights_and_classes_their_names(frame):
    x, y = frame[["year", "few"]], frame.target.map(["no", "yes", "perhaps"].__getitem__)
    model = XpnetClassifier(hidden=(6,), epochs=2, members=3, diversity=True, selection="greedy", random_state=1)
    model.fit(x[:300], y[:300])
    assert len(set(model.member_weights_)) > 1
    check(model, x[:300], model.predict_proba(x[:300]))
    assert xpnet.export(model, "m.npz").classes == ("no", "perhaps", "yes")
    with pytest.raises(ConfigError, match="network: a XpnetClassifier is not fitted; call its fit first"):
        xpnet.export(XpnetClassifier(), "n.npz")
