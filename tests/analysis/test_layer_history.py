"""Layer statistics epoch by epoch, while networks train."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from calls import Calls

import xpnet
from xpnet.analysis.layer_history import COLUMNS, Recorder
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.errors import ConfigError, DivergedError

CONFIG = xpnet.NetworkConfig(inputs=12, hidden=(7, 5), classes=4)


def test_training_is_the_same_with_a_diagnosis_and_epoch_0_is_before_it(blobs):
    config = xpnet.TrainConfig(epochs=5, n_s="1ep", lam=(0.0, 0.01))
    plain, watched = (xpnet.Network(CONFIG, dtype="float64", replicas=2) for _ in range(2))
    start = xpnet.Network(CONFIG, dtype="float64", replicas=2)
    xpnet.train(plain, blobs, config)
    epochs: list[int] = []
    result, history = xpnet.train_with_diagnosis(
        watched,
        blobs,
        config,
        samples=400,
        every=2,
        callbacks=[Calls(on_epoch_end=lambda record: epochs.append(record.epoch))],
    )
    assert epochs == [1, 2, 3, 4, 5]
    assert all(np.array_equal(plain.parameters[n], watched.parameters[n]) for n in plain.parameters)
    assert history["epoch"].tolist() == [0, 2, 4, 5]
    assert history["step"].tolist() == [0, 8, 16, 20]
    assert history["s_std"].shape == (4, 2, 3)
    np.testing.assert_array_equal(history["eta"][1:], [result.history.epochs[e - 1].eta for e in (2, 4, 5)])
    np.testing.assert_array_equal(history["eta"][0], 1e-5)
    # All training samples are the batch, so their order does not matter.
    x = blobs.standardiser(blobs.train.x, "float64")
    for epoch, net in ((0, start), (-1, plain)):
        want = xpnet.diagnose(net, x, blobs.train.labels, np.array([0, 0.01]), history["eta"][epoch])
        for name in MEASURES:
            np.testing.assert_allclose(history[name][epoch], getattr(want, name), rtol=1e-8, err_msg=name)
    with pytest.raises(KeyError, match="nothing: a diagnosis has"):
        history["nothing"]


def test_csv_and_json_hold_the_numbers(blobs):
    network, config = xpnet.Network(CONFIG, replicas=2), xpnet.TrainConfig(epochs=1)
    _, history = xpnet.train_with_diagnosis(network, blobs, config, samples=50)
    header, *rows = [line.split(",") for line in history.to_csv().splitlines()]
    assert tuple(header) == COLUMNS
    assert len(rows) == 2 * 2 * 3
    for cells in rows:
        entry = dict(zip(header, cells, strict=True))
        row = history["epoch"].tolist().index(int(entry["epoch"]))
        for name in MEASURES:
            want = history[name][row, int(entry["replica"]), int(entry["layer"]) - 1]
            np.testing.assert_array_equal(float(entry[name]), want)
    as_json = history.to_json()
    assert as_json["measures"]["dead"][0][0][2] is None
    assert as_json["measures"]["s_std"] == history["s_std"].tolist()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 1}, "samples = 1: must be from 2 to 400"),
        ({"samples": 401}, "samples = 401: must be from 2 to 400"),
        ({"every": 0}, "every = 0: must be a whole number of at least 1"),
    ],
)
def test_a_recorder_says_what_is_wrong(blobs, wrong, message):
    with pytest.raises(ConfigError, match=message):
        Recorder(xpnet.Network(CONFIG), blobs, xpnet.TrainConfig(), **wrong)
    with pytest.raises(ConfigError, match="inputs = 3: the data"):
        Recorder(xpnet.Network(xpnet.NetworkConfig(inputs=3)), blobs, xpnet.TrainConfig())


def test_a_replica_that_diverges_has_no_figures_from_there_on(blobs):
    config = xpnet.TrainConfig(epochs=2, schedule="constant", eta=(0.01, 1e30))
    net = xpnet.Network(dataclasses.replace(CONFIG, batch_norm=False), replicas=2)
    _, history = xpnet.train_with_diagnosis(net, blobs, config, samples=50)
    assert np.isfinite(history["s_std"][0]).all()
    assert np.isfinite(history["s_std"][1:, 0]).all()
    assert np.isnan(history["s_std"][1:, 1]).all()
    assert np.isnan(history["predicted"][1:, 1]).all()
    net = xpnet.Network(dataclasses.replace(CONFIG, batch_norm=False))
    config = dataclasses.replace(config, eta=1e30)
    recorder = Recorder(net, blobs, config)
    with pytest.raises(DivergedError):
        xpnet.train(net, blobs, config, callbacks=[recorder])
    assert recorder.history["epoch"].tolist() == [0]
