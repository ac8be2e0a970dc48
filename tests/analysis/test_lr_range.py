"""The learning rate range test: its rates, its curves, its end, and what it suggests."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from calls import Calls
from strict import gpu_backend, strict_backend

import xpnet
from xpnet.analysis.lr_range import Smoothing, rising_rates
from xpnet.analysis.lr_suggestion import COLUMNS, Suggestion, suggest
from xpnet.errors import ConfigError, DivergedError
from xpnet.training.batches import Batches

FIGURES = ("losses", "smoothed", "accuracies", "accuracies_smoothed", "validation")
LINEAR = xpnet.NetworkConfig(inputs=12, hidden=(), classes=4)
DEEP = xpnet.NetworkConfig(inputs=12, hidden=(9, 7), classes=4)
PLAIN = xpnet.TrainConfig(lam=0.0, batch_size=50)


def test_the_rates_are_exactly_those_asked_for(blobs):
    for spacing, of in (("log", np.log), ("linear", np.asarray)):
        rates = rising_rates(1e-4, 0.1, 41, spacing)
        assert (rates[0], rates[-1], len(rates)) == (1e-4, 0.1, 41)
        np.testing.assert_allclose(np.diff(of(rates)), (of(0.1) - of(1e-4)) / 40, rtol=1e-9)
        test = xpnet.lr_range(LINEAR, blobs, PLAIN, from_=1e-4, to=0.1, steps=41, spacing=spacing, seeds=np.int64(1))
        assert test.seeds == (1,)
        np.testing.assert_array_equal(test.rates, rates)
    assert test.rates[1] - test.rates[0] == pytest.approx(0.0999 / 40)


def test_each_step_is_that_of_gradient_descent_with_its_rate(blobs):
    # A linear softmax classifier by hand, with the batches of training: 150, 150 and 100 samples of an epoch.
    config = xpnet.TrainConfig(lam=0.0, batch_size=150)
    test = xpnet.lr_range(LINEAR, blobs, config, from_=1e-3, to=1.0, steps=60, dtype="float64", seeds=3)
    net = xpnet.Network(LINEAR, dtype="float64", seed=3)
    W, b = net.parameters["W1"][0].copy(), net.parameters["b1"][0].copy()
    x = blobs.standardiser(blobs.train.x, "float64")
    order = [rows for epoch in range(20) for part in Batches((3,), 400, config).of_epoch(epoch) for rows in part]
    assert [len(rows) for rows in order] == [150, 150, 100] * 20
    for t, rows in enumerate(order):
        logits = x[rows] @ W + b
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        right = np.eye(4)[blobs.train.labels[rows]]
        assert test.losses[t, 0] == pytest.approx(-np.log(p[right == 1]).mean(), rel=1e-9)
        assert test.accuracies[t, 0] == (logits.argmax(axis=1) == blobs.train.labels[rows]).mean()
        g = (p - right) / len(rows)
        W, b = W - test.rates[t] * x[rows].T @ g, b - test.rates[t] * g.sum(axis=0)
    valid = blobs.standardiser(blobs.validation.x, "float64") @ W + b
    assert test.validation[-1, 0] == (valid.argmax(axis=1) == blobs.validation.labels).mean()
    assert (test.validation_steps == np.arange(2, 61, 2)).all()


def test_smoothing_is_a_weighted_mean_of_what_was_met():
    values = np.random.default_rng(0).standard_normal((30, 2))
    smoothing = Smoothing(1000)
    got = np.concatenate([smoothing(values[:11]), smoothing(values[11:])])
    for t in range(30):
        weights = 0.95 ** np.arange(t, -1, -1)
        np.testing.assert_allclose(got[t], weights @ values[: t + 1] / weights.sum(), rtol=1e-12)
    assert Smoothing(20).beta == 0.8


def stable_limit(blobs, lam) -> float:
    """Return 2 / L of full-batch descent on the linear classifier; L bounds the cost's curvature."""
    x = blobs.standardiser(blobs.train.x, "float64")
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    # The Hessian of the cross-entropy is at most half the largest eigenvalue of x'x / n (Boehning, 1992).
    return 2 / (np.linalg.eigvalsh(x.T @ x / len(x))[-1] / 2 + 2 * lam)


def test_on_a_convex_problem_the_suggestion_is_near_the_stable_limit(blobs):
    # The penalty's own curvature, 2 lam, makes it nearly a quadratic, which descent leaves at 2 / curvature.
    for lam in (0.5, 2.0):
        full = xpnet.TrainConfig(lam=lam, batch_size=400)
        test = xpnet.lr_range(LINEAR, blobs, full, from_=1e-5, to=1e3, steps=400)
        assert test.suggestion is not None, test.no_suggestion
        limit = stable_limit(blobs, lam)
        assert limit / 2 < test.suggestion.eta_max < limit * 4
        assert test.ended is not None
        assert test.suggestion.eta_min < test.suggestion.eta_max / 10


def test_it_is_the_same_again_and_leaves_nothing_else_changed(blobs):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this global state must stay untouched
    one, two = (xpnet.lr_range(DEEP, blobs, PLAIN, steps=60, seeds=2) for _ in range(2))
    for name in FIGURES:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.suggestion == two.suggestion
    other = xpnet.lr_range(DEEP, blobs, PLAIN, steps=60, seeds=5)
    assert not np.allclose(one.losses, other.losses)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_replica_is_its_solo_test(blobs, momentum):
    config = xpnet.TrainConfig(batch_size=70, momentum=momentum)  # leaves a batch of 50
    setup = {"from_": 1e-5, "to": 0.3, "steps": 60, "dtype": "float64"}
    together = xpnet.lr_range(DEEP, blobs, config, seeds=(4, 5, 6), **setup)
    assert together.losses.shape == (60, 3)
    for r, seed in enumerate((4, 5, 6)):
        alone = xpnet.lr_range(DEEP, blobs, config, seeds=seed, **setup)
        for name in FIGURES:
            np.testing.assert_allclose(getattr(together, name)[:, r], getattr(alone, name)[:, 0], rtol=1e-9)
        assert together.each[r] == alone.suggestion


def test_the_default_is_an_epoch_or_500_steps(blobs):
    seen: list[int] = []
    test = xpnet.lr_range(LINEAR, blobs, PLAIN, to=1e-3, callbacks=[Calls(on_steps=seen.append)])
    assert test.asked == 500 == sum(seen)
    assert len(test.validation) == 50
    x = np.random.default_rng(0).standard_normal((1300, 12)).astype(np.float32)
    more = xpnet.data_from_arrays(x, np.arange(1300) % 4, split="1100/70")
    config = xpnet.TrainConfig(batch_size=2, lam=0.0)
    assert xpnet.lr_range(LINEAR, more, config, to=1e-3).asked == 550


def test_it_ends_when_the_loss_is_four_times_its_lowest(blobs):
    test = xpnet.lr_range(DEEP, blobs, PLAIN, from_=1e-3, to=1e6, steps=200)
    end = len(test.rates)
    assert end < test.asked == 200
    mean = test.smoothed.mean(axis=1)
    assert mean[-1] > 4 * mean.min()
    assert (mean[:-1] <= 4 * np.minimum.accumulate(mean)[:-1]).all()
    assert test.ended == f"the smoothed loss was 4 times its lowest at rate {test.rates[-1]:.3g}"
    assert test.validation_steps[-1] < end


def test_what_is_not_finite_ends_it_and_is_not_recorded(blobs):
    # Without BN the loss can jump beyond what a float holds within one step.
    config = xpnet.NetworkConfig(inputs=12, hidden=(9, 7), classes=4, batch_norm=False)
    test = xpnet.lr_range(config, blobs, PLAIN, from_=1e-4, to=1e38, steps=20)
    assert np.isfinite(test.losses).all()
    assert test.ended is not None
    assert len(test.rates) < 20
    at_once = xpnet.lr_range(config, blobs, PLAIN, from_=1e20, to=1e38, steps=20)
    assert len(at_once.rates) < 5
    assert "lower --from" in at_once.no_suggestion
    with pytest.raises(DivergedError, match="not finite at the lowest rate"):
        xpnet.lr_range(xpnet.NetworkConfig(inputs=12, hidden=(9, 7), classes=4, batch_norm=False, init=1e30), blobs)


def test_it_can_be_stopped(blobs):
    answers = iter([False, False, True])
    test = xpnet.lr_range(LINEAR, blobs, PLAIN, steps=100, callbacks=[Calls(should_stop=lambda: next(answers))])
    assert test.interrupted
    assert len(test.rates) == 6


@pytest.mark.slow
@pytest.mark.parametrize("which", ["strict", "gpu"])
def test_on_a_device_it_is_that_of_the_cpu(blobs, monkeypatch, which):
    backend = strict_backend() if which == "strict" else gpu_backend(monkeypatch)
    setup = {"from_": 1e-4, "to": 0.5, "steps": 20, "dtype": "float64", "seeds": (1, 2)}
    config = xpnet.TrainConfig(batch_size=150, momentum=0.5)
    there = xpnet.lr_range(DEEP, blobs, config, backend=backend, **setup)
    here = xpnet.lr_range(DEEP, blobs, config, **setup)
    for name in FIGURES:
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-9)
    assert there.device == backend.device
    # Two copies for the figures of each stretch, and three for its validation pass.
    assert backend.xp.synchronisations <= 5 * len(there.validation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"from_": 0}, "from = 0: must be a finite number above 0"),
        ({"to": "much"}, "to = much: must be a finite number above 0"),
        ({"from_": 1, "to": 1}, "from = 1, to = 1: from must be below to"),
        ({"steps": 19}, "steps = 19: must be a whole number of at least 20 and at most 100000000"),
        ({"seeds": -1}, "seeds = -1: must be a whole number of at least 0 and at most 300 digits, or a sequence of"),
        ({"spacing": "cubic"}, "spacing = cubic: must be log or linear"),
    ],
)
def test_refusals(blobs, arguments, message):
    with pytest.raises(ConfigError) as error:
        xpnet.lr_range(LINEAR, blobs, **arguments)
    assert str(error.value).startswith(message)


def test_data_must_be_data_and_fit(blobs):
    with pytest.raises(ConfigError, match="data: is a list"):
        xpnet.lr_range(LINEAR, [1, 2])
    with pytest.raises(ConfigError, match="inputs = 11"):
        xpnet.lr_range(xpnet.NetworkConfig(inputs=11, classes=4), blobs)
    prepared = xpnet.to_device(blobs, xpnet.get_backend("cpu"), "float32")
    assert xpnet.lr_range(LINEAR, prepared, steps=20).asked == 20
    with pytest.raises(ConfigError, match="prepare it with to_device"):
        xpnet.lr_range(LINEAR, prepared, dtype="float64")


def test_the_table_has_a_row_for_each_step_and_replica(blobs):
    test = xpnet.lr_range(DEEP, blobs, PLAIN, steps=100, seeds=(0, 1))
    rows = list(csv.DictReader(io.StringIO(test.to_csv())))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(test.rates) * 2
    assert [float(row["smoothed"]) for row in rows[1::2]] == test.smoothed[:, 1].tolist()
    passes = [float(row["validation_accuracy"]) for row in rows[::2] if row["validation_accuracy"]]
    assert passes == test.validation[:, 0].tolist()
    assert test.validation_rates.tolist() == test.rates[1::2][: len(passes)].tolist()


def test_noise_is_not_a_fall():
    rates, losses, _, validation, steps = curves(lambda a: 2.0, lambda a: 0.1)
    for seed in range(30):
        noisy = losses + 0.5 * np.random.default_rng(seed).standard_normal(len(losses))
        found = suggest(
            rates, noisy, Smoothing(len(rates))(noisy[:, None])[:, 0], validation, steps, window=14, diverged=False
        )
        assert isinstance(found, str)
        assert "never fell by more than noise" in found


# ---------------------------------------------------------------------------------------
# The rule, on curves that are known


def curves(loss, accuracy):
    """Return the arguments of `suggest` for a loss and an accuracy over log10(rate) from -6 to 1."""
    at = np.linspace(-6, 1, 701)
    steps = np.arange(10, 701, 10)
    values = np.array([loss(a) for a in at])
    return 10**at, values, values, np.array([accuracy(a) for a in at[steps - 1]]), steps


def falling(a: float) -> float:
    return 2.0 - np.clip((a + 4) / 3, 0, 1) + np.clip(a + 0.5, 0, 9)


def rising(a: float) -> float:
    return 0.1 + 0.3 * np.clip((a + 4) / 3, 0, 1) - 0.3 * np.clip(a + 1, 0, 1)


def test_the_rule_on_straight_lines():
    found = suggest(*curves(falling, rising), window=10, diverged=False)
    assert isinstance(found, Suggestion)
    # A tenth of the way from 1e-4 to 1e-1; from the peak at 1e-1 the accuracy loses 2 % of its gain in 0.02 decades.
    assert np.log10(found.eta_min) == pytest.approx(-3.7, abs=0.02)
    assert np.log10(found.eta_max) == pytest.approx(-1, abs=0.11)
    assert np.log10(found.loss_rises) == pytest.approx(-0.4, abs=0.02)
    # Whichever comes first: an accuracy that never falls leaves the loss to say it.
    only_loss = suggest(
        *curves(falling, lambda a: min(rising(a), rising(-1)) if a < -1 else 0.4), window=10, diverged=False
    )
    assert only_loss.accuracy_falls is None
    assert only_loss.eta_max == float(f"{only_loss.loss_rises:.2g}")
    assert only_loss.note is None


def test_a_fall_from_the_first_rate_on_is_said():
    rates, losses, smoothed, validation, steps = curves(lambda a: falling(a + 2), lambda a: rising(a + 2))
    late = 200
    cut = steps[steps > late] - late
    found = suggest(
        rates[late:], losses[late:], smoothed[late:], validation[-len(cut) :], cut, window=20, diverged=False
    )
    assert "a lower --from" in found.note


@pytest.mark.parametrize(
    ("loss", "accuracy", "diverged", "message"),
    [
        (lambda a: 2.0, lambda a: 0.1, False, "never fell by more than noise, 0.1,.*raise --to"),
        (lambda a: 2.0 + max(0, a), lambda a: 0.1, True, "never fell by more than noise, 0.1,.*but rose; lower --from"),
        (lambda a: 2.0 - (a + 6) / 7, lambda a: (a + 6) / 7, False, "neither did the loss rise.*raise --to"),
        (lambda a: 2.0 if a < -2 else 1 + (a + 2) * 9, lambda a: 0.1, False, "too close to tell apart.*more --steps"),
    ],
)
def test_where_nothing_can_be_suggested_it_is_said_why(loss, accuracy, diverged, message):
    found = suggest(*curves(loss, accuracy), window=10, diverged=diverged)
    assert isinstance(found, str)
    assert re.search(message, found)


@pytest.mark.parametrize(
    ("layers", "batch_norm", "epochs", "said"),
    [(6, True, 200, True), (5, True, 200, False), (6, True, 75, False), (6, False, 200, False)],
)
def test_a_test_that_is_short_for_a_deep_normalised_network_says_so(blobs, layers, batch_norm, epochs, said):
    config = xpnet.NetworkConfig(inputs=12, hidden=(6,) * (layers - 1), classes=4, batch_norm=batch_norm)
    train = xpnet.TrainConfig(lam=0.0, batch_size=50, epochs=epochs)  # 8 steps an epoch
    test = xpnet.lr_range(config, blobs, train, from_=1e-4, to=100.0, steps=160)
    assert test.suggestion is not None
    note = test.suggestion.note or ""
    assert ("160 steps are few" in note) == said
    words = "160 steps are few for 6 layers with batch normalisation that will train for 1,600: .*; take --steps 800"
    assert bool(re.search(words, note)) == said
    assert test.to_json()["suggestion"]["note"] == test.suggestion.note
