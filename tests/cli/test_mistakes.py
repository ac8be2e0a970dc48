"""Command lines that are wrong: one sentence says what to type."""

from __future__ import annotations

import pytest
from command_line import CommandLine

from xpnet.cli.mistakes import close_to


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("trian", "trian: xpnet has no such command; type xpnet train"),
        ("fetch", "fetch: xpnet has no such command; type xpnet data fetch"),
        ("data ftech", "ftech: xpnet data has no such command; type xpnet data fetch"),
        ("--foo", "--foo: xpnet has no such option; xpnet --help lists those that there are"),
        ("train --epoch 3", "--epoch: xpnet train has no such option; did you mean --epochs?"),
        ("train --batch 3", "--batch: xpnet train has no such option; did you mean --batch-norm or --batch-size?"),
        (
            "train --samples 3",
            "--samples: xpnet train has no such option, but xpnet gradcheck and xpnet diagnose have it",
        ),
        ("train --xyz", "--xyz: xpnet train has no such option; xpnet train --help lists those that there are"),
        ("train --hidden 50 50", "50: stands alone; write several values with commas, without spaces: --hidden 50,50"),
        (
            "train --lambda 0 0.1 1 --seed 1",
            "0.1: stands alone; write several values with commas, without spaces: --lambda 0,0.1",
        ),
        ("bench 3", "3: xpnet bench takes no such argument; options begin with --, as xpnet bench --help shows"),
        ("train --seed", "--seed: needs a value: --seed N"),
        ("train --device", "--device: needs a value: --device auto|cpu|gpu|gpu:N"),
        ("predict", "RUN: is missing; type xpnet predict RUN INPUTS..."),
        ("train --seed 1 --seed 2", "--seed: is there twice; write several values with commas: --seed A,B"),
        ("train --hidden 1 --hidden 2", "--hidden: is there twice; give it once"),
        ("train --batch-norm=maybe", "--batch-norm maybe: must be true or false"),
        ("gradcheck --samples x", "--samples x: must be a whole number"),
        ("gradcheck --choose all", "--choose all: must be first or random"),
        ("data fetch mnist", "NAME mnist: must be cifar10 or cifar100"),
    ],
)
def test_mistake_gets_a_sentence_that_says_what_to_type(command: CommandLine, line: str, sentence: str):
    assert command.refused(*line.split()) == sentence


def test_unknown_command_without_likeness_gets_the_list_of_commands(command: CommandLine):
    sentence = command.refused("foo")
    assert sentence.startswith("foo: xpnet has no such command; there are train, ")
    assert sentence.endswith(" and data")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--tables", []), ("--batch_size", ["--batch-size"]), ("--seeed", ["--seed"]), ("-x", []), ("--e", [])],
)
def test_close_to_suggests_only_what_is_really_close(word: str, meant: list[str]):
    known = ["--lr-first", "--batch-size", "--seed", "--epochs", "--eta", "--eta-min", "--eta-max", "-q"]
    assert close_to(word, known) == meant
