"""The network's passes against numbers worked out by hand, and its contracts."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.errors import ArrayError, ConfigError, DataError, RunError
from xpnet.nn.initialisers import weight_std
from xpnet.nn.network import Network

X = np.array([[1.0, 2.0], [3.0, -1.0]])
LABELS = np.array([0, 1])


def network(inputs, hidden, classes=10, *, dtype="float32", seed=0, replicas=None, **settings) -> Network:
    config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=classes, **settings)
    return Network(config, dtype=dtype, seed=seed, replicas=replicas)


def small(batch_norm: bool, values=(), **settings) -> Network:
    """Return 2-2-2 with weights that are easy to compute with, and other tensors from `values`."""
    net = network(2, (2,), 2, dtype="float64", batch_norm=batch_norm, **settings)
    for name, value in {"W1": [[1, -1], [0, 2]], "W2": [[1, 0], [2, 1]], **dict(values)}.items():
        (net.running if name in net.running else net.parameters)[name][0] = value
    return net


def check_gradients(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name][0], value, rtol=1e-13, atol=1e-15, err_msg=name)


def test_forward_backward_and_cost_by_hand():
    """Worked on paper.

    s1 = x W1 = [[1, 3], [3, -5]], with b1 = [0, 1]: [[1, 4], [3, -4]], a = relu: [[1, 4], [3, 0]].
    s2 = a W2 = [[9, 4], [3, 0]], with b2 = [-5, 0]: [[4, 4], [-2, 0]].
    p = [[1/2, 1/2], [u, 1 - u]] with u = 1 / (1 + e^2); loss = (ln 2 - ln(1 - u)) / 2.
    g2 = (p - y) / 2 = [[-1/4, 1/4], [u/2, -u/2]].
    dW2 = a' g2 = [[-1/4 + 3u/2, 1/4 - 3u/2], [-1, 1]]; db2 = [-1/4 + u/2, 1/4 - u/2].
    da = g2 W2' = [[-1/4, -1/4], [u/2, u/2]]; the mask takes the last: g1 = [[-1/4, -1/4], [u/2, 0]].
    dW1 = x' g1 = [[-1/4 + 3u/2, -1/4], [-1/2 - u/2, -1/2]]; db1 = [-1/4 + u/2, -1/4].
    The penalty: sum W1^2 = 6, sum W2^2 = 6, so cost = loss + 12 lambda, and dW gains 2 lambda W.
    """
    net = small(False, {"b1": [0, 1], "b2": [-5, 0]})
    u = 1 / (1 + np.exp(2.0))
    lam = 0.125
    cost, gradients = net.cost_and_gradients(X, LABELS, lam)
    W1, W2 = net.parameters["W1"][0], net.parameters["W2"][0]
    np.testing.assert_allclose(cost, [(np.log(2) - np.log(1 - u)) / 2 + 12 * lam], rtol=1e-14)
    expected = {
        "W1": np.array([[-0.25 + 1.5 * u, -0.25], [-0.5 - u / 2, -0.5]]) + 2 * lam * W1,
        "b1": [[-0.25 + u / 2, -0.25]],
        "W2": np.array([[-0.25 + 1.5 * u, 0.25 - 1.5 * u], [-1, 1]]) + 2 * lam * W2,
        "b2": [[-0.25 + u / 2, 0.25 - u / 2]],
    }
    assert list(gradients) == list(net.parameters) == ["W1", "b1", "W2", "b2"]
    check_gradients(gradients, expected)


def test_batch_normalisation_by_hand():
    """Worked on paper, with eps = 3 so that the roots are whole.

    s1 = [[1, 3], [3, -5]]: mean [2, -1], centred [[-1, 4], [1, -4]], var [1, 16]; var + eps = [4, 19];
    with the second column of W1 halved s1 = [[1, 3/2], [3, -5/2]]: centred [[-1, 2], [1, -2]], var [1, 4].
    eps = 0 is not allowed, so eps = 5: 1/sqrt(var + 5) = [1/sqrt 6, 1/3].
    gamma = [sqrt 6, 3], beta = [2, 0]: y = [[1, 2], [3, -2]], a = [[1, 2], [3, 0]].
    W2 = [[1, 0], [2, 1]]: s2 = [[5, 2], [3, 0]], with b2 = [-3, 0]: [[2, 2], [0, 0]]: p = 1/2.
    g2 = [[-1/4, 1/4], [1/4, -1/4]]; da = g2 W2' = [[-1/4, -1/4], [1/4, 1/4]]; masked [[-1/4, -1/4], [1/4, 0]].
    s_hat = [[-1/sqrt 6, 2/3], [1/sqrt 6, -2/3]]:
    dgamma = [1/(2 sqrt 6), -1/6]; dbeta = [0, -1/4].
    ds: first column g - 0 - s_hat mean(g s_hat): mean(g s_hat) = 1/(4 sqrt 6): [-1/4 + 1/24, 1/4 - 1/24],
    times gamma inv_std = 1: [-5/24, 5/24]. Second: mean g = -1/8, mean(g s_hat) = -1/12:
    [-1/4 + 1/8 + 1/18, 1/8 - 1/18] = [-5/72, 5/72], times 3/3.
    dW1 = x' ds = [[-5/24 + 15/24, -5/72 + 15/72], [-10/24 - 5/24, -10/72 - 5/72]].
    """
    values = {"W1": [[1, -0.5], [0, 1]], "gamma1": [np.sqrt(6), 3], "beta1": [2, 0], "b2": [-3, 0]}
    net = small(True, values, bn_eps=5.0)
    cost, gradients = net.cost_and_gradients(X, LABELS)
    np.testing.assert_allclose(cost, [np.log(2)], rtol=1e-14)
    expected = {
        "gamma1": [[1 / (2 * np.sqrt(6)), -1 / 6]],
        "beta1": [[0, -0.25]],
        "W1": np.array([[10 / 24, 10 / 72], [-15 / 24, -15 / 72]]),
        "W2": np.array([[0.5, -0.5], [-0.5, 0.5]]),
        "b2": [[0, 0]],
    }
    check_gradients(gradients, expected)
    np.testing.assert_array_equal(net.running["mean1"], np.zeros((1, 1, 2)))  # left as it was


def test_probabilities_use_the_running_statistics():
    # The roots of var + eps are 3 and 4.
    net = small(True, {"mean1": [1, 0], "var1": [4, 11], "gamma1": [3, 4]}, bn_eps=5.0)
    # s1 = [[1, 3], [3, -5]]: y = [[0, 3], [2, -5]], a = [[0, 3], [2, 0]], s2 = [[6, 3], [2, 0]].
    expected = [[1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]]
    np.testing.assert_allclose(net.predict_proba(X)[0], expected, rtol=1e-14)


def test_earlier_names_mean_the_same():
    net = small(True)
    with pytest.warns(DeprecationWarning, match=r"Network\.scores is now called Network\.logits"):
        scores = net.scores(X)
    np.testing.assert_array_equal(scores, net.logits(X))
    assert xpnet.Data is xpnet.Dataset


@pytest.mark.parametrize("hidden", [(), (4,), (5, 3, 2)])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_names_and_shapes(hidden, batch_norm, bias):
    net = network(6, hidden, 3, replicas=2, batch_norm=batch_norm, bias_before_bn=bias)
    sizes = (6, *hidden, 3)
    names = []
    for layer in range(1, len(sizes)):
        normalised = batch_norm and layer < len(sizes) - 1
        names.append(f"W{layer}")
        names += [f"b{layer}"] if bias or not normalised else []
        names += [f"gamma{layer}", f"beta{layer}"] if normalised else []
        assert net.parameters[f"W{layer}"].shape == (2, sizes[layer - 1], sizes[layer])
    assert list(net.parameters) == names
    assert all(net.parameters[n].shape[1] == 1 for n in names if n[0] != "W")
    assert {p.dtype for p in net.parameters.values()} == {np.dtype("float32")}
    cost, gradients = net.cost_and_gradients(np.ones((5, 6), np.float32), np.zeros(5, int))
    assert cost.shape == (2,)
    assert {n: g.shape for n, g in gradients.items()} == {n: p.shape for n, p in net.parameters.items()}
    assert net.size == sum(p[0].size for p in net.parameters.values())


def test_results_are_fresh_arrays():
    net = small(batch_norm=True)
    _, first = net.cost_and_gradients(X, LABELS, 0.1)
    kept = {name: g.copy() for name, g in first.items()}
    probabilities = net.predict_proba(X)
    probabilities_kept = probabilities.copy()
    net.cost_and_gradients(X[::-1].copy(), LABELS, 0.3)
    net.predict_proba(X + 1)
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, kept[name])
        assert not any(np.shares_memory(gradient, p) for p in net.parameters.values())
    np.testing.assert_array_equal(probabilities, probabilities_kept)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_parameters_of_one_replica_broadcast_against_many_inputs(batch_norm):
    net = network(4, (5, 3), 3, dtype="float64", seed=3, batch_norm=batch_norm)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 7, 4)), rng.integers(0, 3, (6, 7))
    cost, _ = net.cost_and_gradients(x, labels, 0.1)
    for r in range(6):
        np.testing.assert_allclose(cost[r], net.cost_and_gradients(x[r], labels[r], 0.1)[0][0], rtol=1e-12)


def test_replicas_are_the_networks_of_the_seeds_that_follow():
    together = network(5, (4,), 3, seed=7, replicas=3, init_bias=0.5)
    for r in range(3):
        for name, p in network(5, (4,), 3, seed=7 + r, init_bias=0.5).parameters.items():
            np.testing.assert_array_equal(together.parameters[name][r], p[0])


def test_a_seed_gives_the_same_weights_with_and_without_batch_norm():
    nets = [network(5, (4, 3), seed=1, batch_norm=bn) for bn in (True, False)]
    for name in ("W1", "W2", "W3"):
        np.testing.assert_array_equal(nets[0].parameters[name], nets[1].parameters[name])


@pytest.mark.parametrize(("init", "std"), [("he", np.sqrt(2 / 400)), ("xavier", np.sqrt(1 / 400)), (0.03, 0.03)])
def test_initialisation(init, std):
    assert weight_std(init, 400) == pytest.approx(std, rel=1e-15)
    net = network(400, (300,), init=init, init_bias=0.2, batch_norm=False)
    W = net.parameters["W1"]
    assert W.std() == pytest.approx(std, rel=0.01)
    assert abs(W.mean()) < 4 * std / np.sqrt(W.size)
    assert net.parameters["b1"].std() == pytest.approx(0.2, rel=0.2)


def test_initialisation_leaves_numpys_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - that is what is tested
    Network(xpnet.NetworkConfig(inputs=5))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("standardised", [True, False])
def test_a_saved_network_comes_back_to_the_last_bit(tmp_path, blobs, standardised):
    net = network(12, (5,), 4, seed=2, replicas=2, bias_before_bn=True)
    if standardised:
        xpnet.train(net, blobs, xpnet.TrainConfig(epochs=1))
    net.save(tmp_path / "model.safetensors")
    back = xpnet.load(tmp_path / "model.safetensors")
    assert back.config == net.config
    assert back.class_names == net.class_names
    for mine, theirs in ((net.parameters, back.parameters), (net.running, back.running)):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name])
            assert value.dtype == theirs[name].dtype
    x = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
    np.testing.assert_array_equal(net.predict_proba(x), back.predict_proba(x))
    assert (back.standardiser is not None) == standardised
    if standardised:
        np.testing.assert_array_equal(back.standardiser.mean, blobs.standardiser.mean)
    with pytest.raises(RunError, match="exists already"):
        net.save(tmp_path / "model.safetensors")


def test_a_broken_model_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    network(3, (2,)).save(path)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match="not a whole safetensors file"):
        xpnet.load(tmp_path / "cut.safetensors")
    with pytest.raises(RunError, match="no such run folder or model file"):
        xpnet.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.ones((3, 4)), np.zeros(3, int), r"x: has shape \(3, 4\); this network takes \(n, 2\)"),
        (np.ones(2), np.zeros(1, int), r"x: has shape \(2,\)"),
        (np.ones((0, 2)), np.zeros(0, int), r"x: has shape \(0, 2\)"),
        (np.ones((3, 2), np.float32), np.zeros(3, int), "x: is float32, but this network computes in float64"),
        (np.ones((3, 2)), np.zeros(4, int), r"labels: have shape \(4,\) for x of shape \(3, 2\)"),
        (np.ones((3, 2)), np.zeros(3), "labels: are float64"),
        (np.ones((3, 2)), np.array([0, 1, 2]), "labels: range from 0 to 2; this network has classes 0 to 1"),
        (np.ones((3, 2)), np.array([0, -1, 1]), "labels: range from -1 to 1"),
    ],
)
def test_wrong_arguments_are_named(x, labels, message):
    with pytest.raises(ArrayError, match=message):
        small(batch_norm=True).cost_and_gradients(x, labels)


@pytest.mark.parametrize(("argument", "message"), [({"replicas": 0}, "replicas = 0"), ({"dtype": "int8"}, "dtype")])
def test_wrong_settings_are_named(argument, message):
    with pytest.raises(ConfigError, match=message):
        Network(xpnet.NetworkConfig(inputs=2), **argument)


@pytest.fixture(scope="module")
def of_bytes():
    """Return two trained networks and their data, images as bytes."""
    rng = np.random.default_rng(3)
    labels = np.arange(400) % 3
    x = rng.integers(0, 90, (400, 4, 5), np.uint8) + (60 * labels[:, None, None]).astype(np.uint8)
    data = xpnet.data_from_arrays(x, labels)
    net = network(20, (6,), 3, replicas=2)
    xpnet.train(net, data, xpnet.TrainConfig(epochs=4, batch_size=20))
    return net, data


def test_raw_samples_are_predicted_as_they_were_trained_on(of_bytes):
    net, data = of_bytes
    x = data.test.x
    wanted = net.predict_proba(data.standardiser(x), standardised=True)
    assert (wanted.argmax(axis=-1) == data.test.labels).mean() > 0.7
    for raw in (x, x.astype(np.float32), x.astype(np.float64), x.astype(np.int64), x.tolist(), x.reshape(-1, 4, 5)):
        np.testing.assert_allclose(net.predict_proba(raw), wanted, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(x), wanted.argmax(axis=-1))
    assert net.predict(x).shape == (2, len(x))
    np.testing.assert_array_equal(net.predict(data.standardiser(x), standardised=True), net.predict(x))
    # Samples for each replica.
    both = np.stack([x, x[::-1]])
    np.testing.assert_allclose(net.predict_proba(both), np.stack([wanted[0], wanted[1, ::-1]]), rtol=1e-5)


def test_raw_samples_in_parts_are_those_at_once(of_bytes, monkeypatch):
    net, data = of_bytes
    whole = net.predict_proba(data.train.x), net.predict_proba(np.stack([data.train.x] * 2))
    monkeypatch.setattr("xpnet.nn.probabilities._ROWS", 7)
    for x, expected in zip((data.train.x, np.stack([data.train.x] * 2)), whole, strict=True):
        np.testing.assert_allclose(net.predict_proba(x), expected, rtol=1e-5)


def test_a_network_without_a_transform_takes_samples_as_they_are():
    net = small(batch_norm=True)
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(X, standardised=True))
    np.testing.assert_array_equal(net.predict(X), net.predict_proba(X).argmax(axis=-1))
    with pytest.raises(ArrayError, match="x: is float32, but this network computes in float64; convert it with"):
        net.predict(X.astype(np.float32))


def test_what_is_no_raw_sample_is_refused(of_bytes):
    net, data = of_bytes
    x = data.test.x.astype(np.float64)
    far, odd = x.copy(), x.copy()
    far[3, 2], odd[1, 4] = 1e100, np.nan
    for bad, error, message in [
        (x[0], ArrayError, r"x: has shape \(20,\); this network takes \(n, 20\) or \(R, n, 20\)"),
        (x[:, 1:], ArrayError, r"x: has shape \(40, 19\)"),
        (x[:0], ArrayError, r"x: has shape \(0, 20\)"),
        (np.stack([x] * 3), ArrayError, r"x: has shape \(3, 40, 20\); .* or \(R, n, 20\) with R = 2"),
        (odd, DataError, "x has 1 values that are not finite, the first in row 1, column 4"),
        (far, DataError, r"x: row 3, feature 2 \(from 0\): lies too far from the values .* for float32"),
        (np.ma.masked_greater(x, 100), DataError, "x is a masked array with .* masked values"),
        (x.astype(str), DataError, "x is an array of <U32; it must be one of real numbers"),
    ]:
        with pytest.raises(error, match=message):
            net.predict(bad)
    # Whoever passes raw samples where standardised ones belong is told how to make them.
    with pytest.raises(ArrayError, match=r'x: is uint8, .*; transform raw samples with network.transform\(x, "f'):
        net.predict_proba(data.test.x, standardised=True)
    with pytest.raises(ArrayError, match=r"x: is uint8, .* with network\.transform"):
        xpnet.evaluate(net, data.test.x, data.test.labels)
    with pytest.raises(ArrayError, match="x: has masked values"):
        net.cost_and_gradients(np.ma.masked_greater(data.standardiser(x), 1), data.test.labels)


def test_a_network_that_has_diverged_predicts_no_class(of_bytes):
    net, data = of_bytes
    half = net.select([0, 1])
    half.parameters["W1"][1] = np.nan
    found = half.predict(data.test.x)
    np.testing.assert_array_equal(found[0], net.predict(data.test.x)[0])
    assert (found[1] == -1).all()
