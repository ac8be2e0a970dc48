"""Extras that are installed, those that are not, and what is said about them."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from xpnet.errors import MissingExtraError, XpnetError
from xpnet.utils.extras import EXTRAS, Extra, install_command, installed, need, version_of


def test_need_of_what_is_installed_says_nothing():
    assert installed("figures")
    assert need("figures", "a chart") is None


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        (["optuna"], "a search needs optuna, which is not installed: pip install 'xpnet[search]'"),
        (["altair", "jinja2"], "needs altair and jinja2, which are not installed: pip install 'xpnet[figures]'"),
    ],
    ids=["one package", "several"],
)
def test_need_of_what_is_missing_names_the_packages_and_the_command(monkeypatch, absent, words):
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    name = "search" if "optuna" in absent else "figures"
    with pytest.raises(MissingExtraError) as caught:
        need(name, "a search")
    assert str(caught.value).endswith(words)
    assert isinstance(caught.value, XpnetError | ImportError)
    assert not installed(name)
    assert EXTRAS[name].versions()[absent[0]] is None


def test_extra_that_shares_its_module_with_another_asks_for_its_own_package():
    assert Extra("", {"numpy": "numpy"}, named=True).missing() == []
    assert Extra("", {"numpy": "numpy-of-others"}, named=True).missing() == ["numpy-of-others"]
    assert Extra("", {"numpy": "numpy-of-others"}).missing() == []


@pytest.mark.parametrize("package", ["numpy", "vl-convert-python", "Pillow", "scikit-learn"])
def test_version_of_a_package_is_that_of_its_metadata(package):
    assert version_of(package) == metadata.version(package)


def test_version_of_a_package_is_found_in_folders_of_all_forms(tmp_path, monkeypatch):
    for name in ("some_thing-1.2.dist-info", "old.thing-3.0-py3.11.egg-info", "some_thing_else-9.dist-info"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere"), str(tmp_path)])
    assert [version_of(name) for name in ("Some-Thing", "old-thing", "thing")] == ["1.2", "3.0", None]


def test_install_command_takes_several_extras():
    assert install_command("figures,fast") == "pip install 'xpnet[figures,fast]'"
