"""Every setting is known to each stepper of a GPU, and trains as on the CPU, or is refused by name."""

from __future__ import annotations

import dataclasses

import emulator
import pytest
from gpu_settings import CASES, ELSEWHERE, STEPPERS, check_setting, known_to_small
from strict import gpu_backend

import xpnet

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
# Some train in the default tests, the others in those that take longer.
QUICK = {("multi", "rates"), ("multi", "nine layers"), ("small", "biases before it"), ("graph", "all")}
REFUSED = [(kind, name) for kind in ("small", "multi", "persistent") for name in CASES if not known_to_small(name)]
# graph trains what the others refuse, and all of it at once; what all know, its own tests train.
TRAINED = [(kind, name) for kind in STEPPERS[1:4] for name in CASES if known_to_small(name) != (kind == "graph")]
TRAINED += [("persistent", name) for name in ("own orders", "bytes")]


def test_every_setting_of_a_step_has_a_case():
    fields = {f.name for kind in (xpnet.NetworkConfig, xpnet.TrainConfig) for f in dataclasses.fields(kind)}
    tried = {name for case in CASES.values() for part in ("network", "training") for name in case.get(part, {})}
    assert tried | ELSEWHERE == fields
    assert not tried & ELSEWHERE


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_setting_that_small_steppers_do_not_know_is_refused_by_name(monkeypatch, kind, name):
    check_setting(gpu_backend(monkeypatch), kind, name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow) for one in TRAINED],
)
def test_setting_trains_on_a_pretended_gpu_as_on_the_cpu(monkeypatch, kind, name):
    check_setting(gpu_backend(monkeypatch), kind, name)
