"""What stands on the page of a search, without a browser."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_checks import charts_of, check_whole, page_of
from report_cases import search, small

from xpnet.report.search_chart import search_panels
from xpnet.report.search_commands import _differences
from xpnet.report.theme import COLOURS
from xpnet.report.trial_kinds import BEST, COMPLETE, DIVERGED, PRUNED, close_of, fate_of
from xpnet.report.write import build_page

pytestmark = pytest.mark.pictures


def changed(change: Any, trials: int = 16) -> Path:
    """Make the folder of a search whose content `change` has altered."""
    folder = search(Path("found"), trials=trials)
    content = json.loads((folder / "search.json").read_text())
    content |= change(content) or {}
    (folder / "search.json").write_text(json.dumps(content))
    return folder


def text_of(folder: Path) -> str:
    """Return all sentences and cells of a page."""
    parts = []
    page = build_page([folder])
    for section in page.sections:
        for block in section.blocks:
            if block.kind == "table":
                parts += [block.caption, *block.head, *(cell.text for row in block.rows for cell in row)]
            parts += [block.words] if block.kind == "text" else []
            parts += [" ".join(item) for item in block.items] if block.kind == "facts" else []
    return "\n".join([page.conclusion, *page.notes, *parts])


def table_of(folder: Path, section: str) -> tuple[list[str], list[list[str]]]:
    """Return the first table of a section: its head and its cells."""
    blocks = next(found for found in build_page([folder]).sections if found.name == section).blocks
    table = next(block for block in blocks if block.kind == "table")
    return list(table.head), [[cell.text for cell in row] for row in table.rows]


def test_a_search_shows_trials_effects_and_winner():
    folder = search(Path("found"), winner=small(out="run"))
    text, tags = page_of(folder)
    check_whole(text, tags)
    content = json.loads((folder / "search.json").read_text())
    specs = charts_of(text)
    kept = [t for t in content["trials"] if t["validation"]]
    by_lambda = specs["accuracy-by-lambda"]["data"]["values"]
    assert len(by_lambda) == len(kept) == 15
    assert all(row["h"] > row["y"] > row["l"] for row in by_lambda)
    assert '"type": "log"' in json.dumps(specs["accuracy-by-lambda"])
    field = specs["accuracy-by-lambda-and-eta-max"]["data"]["values"]
    between = [row["v"] for row in field if row["kind"] == "between"]
    means = [t["validation"]["accuracy"]["mean"] for t in kept if t["state"] == "complete"]
    assert len(between) > 100
    assert min(means) - 1e-9 <= min(between) <= max(between) <= max(means) + 1e-9
    assert "winner-confusion" in specs
    shown = "".join(tags.text)
    assert content["command"] in shown
    assert "12 complete, 3 pruned, 1 failed" in shown
    assert len(re.findall(r"pruned after 10 epochs</td>|failed</td>", text)) == 4
    # People count rounds from 1, in the table as in the legend; the file counts from 0.
    assert {row["s"] for row in by_lambda} == {"complete, round 1", "complete, round 2", PRUNED, BEST}
    table = text.partition('aria-label="All trials')[2].partition("</table>")[0]
    rows = re.findall(r"<tr><td[^>]*>(?:<strong>)?(\d+)(?:</strong>)?</td><td[^>]*>(\d+)</td>", table)
    assert {int(trial): int(number) for trial, number in rows} == {
        t["trial"]: t["round"] + 1 for t in content["trials"]
    }
    assert "2 rounds" in shown


def test_a_search_without_winner_and_best_is_shown_too():
    def fail(content: Any) -> Any:
        for trial in content["trials"]:
            trial |= {"state": "failed", "validation": None, "curve": [], "note": "its workers died"}
        return {"best": None, "winner": None, "test": None}

    shown = text_of(changed(fail, trials=2))
    assert "No trial ended with an accuracy, so there is no best." in shown
    assert "No trial has figures" in shown
    assert "failed: its workers died" in shown


def test_pruned_trials_have_a_mark_of_their_own_and_no_part_in_the_colours_of_others():
    def raise_pruned(content: Any) -> None:
        for trial in content["trials"]:
            if trial["state"] == "pruned":
                trial["validation"]["accuracy"]["mean"] = 0.99
        content["search"] = {"prune": "median"}

    folder = changed(raise_pruned)
    panels = {panel.name: panel for panel in build_page([folder]).panels()}
    field = panels["accuracy-by-lambda-and-eta-max"].rows
    assert max(row["v"] for row in field if row["v"] is not None) < 0.6
    assert [row["v"] for row in field if row["kind"] == PRUNED] == [None] * 3
    curves = panels["trial-curves"]
    assert {row["s"] for row in curves.rows} == {BEST, COMPLETE, PRUNED}
    # A pruned trial's curve ends with its last epoch, of which the curve has no figure.
    assert "Pruned means stopped early: at the end of a cycle, a trial below the median of all" in text_of(folder)
    assert "(3 of 16)" in text_of(folder)


@pytest.mark.thorough
def test_one_colour_stands_for_one_kind_of_trials_on_the_whole_page():
    text, _ = page_of(search(Path("found"), winner=small(out="run")))
    meanings: dict[str, set[str]] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            scale = part.get("scale") or {}
            colours = scale.get("range") if isinstance(scale, dict) else None
            if isinstance(colours, list) and colours and str(colours[0]).startswith("#"):
                for name, colour in zip(scale["domain"], colours, strict=True):
                    meanings.setdefault(colour, set()).add(name.partition(", round")[0])
            for value in part.values():
                collect(value)
        for value in part if isinstance(part, list) else []:
            collect(value)

    specs = charts_of(text)
    for name in specs:
        if "weights" not in name and "calibration" not in name and name != "winner-learning-rate":
            collect(specs[name])
    assert meanings[COLOURS[0]] <= {"training", "evaluation"}  # seconds of these have dashes
    assert meanings[COLOURS[1]] <= {"validation"}
    assert [meanings[colour] for colour in COLOURS[2:5]] == [{COMPLETE}, {BEST}, {PRUNED}]


def test_what_was_searched_is_explained_with_its_range_and_scale():
    def widths(content: Any) -> Any:
        for number, trial in enumerate(content["trials"]):
            trial["settings"] = {"lambda": trial["settings"]["lambda"], "width": 8 << number % 3}
            trial["settings"]["activation"] = "relu" if number % 2 else "tanh"
        content["best"]["settings"] = {"lambda": 0.001, "width": 8, "activation": "relu"}
        space = {
            "lambda": content["space"]["lambda"],
            "width": {"draw": "list", "values": [8, 16, 32]},
            "activation": {"draw": "list", "values": ["relu", "tanh"]},
        }
        return {"space": space, "settings": {"hidden": [50, 50], "eta_max": 0.1}, "search": {"draw": "tpe"}}

    folder = changed(widths)
    head, rows = table_of(folder, "searched")
    assert head == ["setting", "what it is", "values", "scale", "best"]
    assert rows[0] == [
        "lambda",
        "Strength of the L2 penalty on the weights.",
        "1e-05 to 0.1",
        "logarithmic",
        "0.001",
    ]
    assert rows[1] == ["width", "Units of each hidden layer; 2 layers.", "8, 16, 32", "list", "8"]
    assert "50, 50" not in text_of(folder)
    assert table_of(folder, "space")[1][0][:2] == ["draw", "tpe"]
    panels = {panel.name: panel for panel in build_page([folder]).panels()}
    assert {row["x"] for row in panels["accuracy-by-activation"].rows} == {"relu", "tanh"}
    # With a third setting that varies, neighbours differ for another reason: nothing is interpolated.
    assert {row["kind"] for row in panels["accuracy-by-lambda-and-width"].rows} == {"trial", BEST, PRUNED}


@pytest.mark.parametrize(
    ("trial", "search", "words"),
    [
        ({"state": "complete", "epochs": 4}, {}, "complete"),
        ({"state": "complete", "lost": 1, "seeds": [0, 1]}, {}, "complete, 1 of 2 seeds diverged, which counts as 0 %"),
        ({"state": "complete", "validation": {"accuracy": {"mean": None}}}, {}, "diverged in its first epoch"),
        ({"state": "complete", "epochs": 2, "validation": {"accuracy": None}}, {}, "diverged after 2 epochs"),
        ({"state": "pruned", "validation": {"accuracy": None}}, {}, "diverged, and pruned"),
        ({"state": "pruned", "epochs": 1}, {}, "pruned after 1 epoch"),
        ({"state": "pruned", "epochs": 0}, {}, "pruned in its first epoch"),
        ({"state": "pruned", "pruned_after": 1}, {"budget": 0.1}, "pruned at 1/8 of budget"),
        ({"state": "failed", "note": "its workers died"}, {}, "failed: its workers died"),
        ({"state": "waiting"}, {}, "not trained"),
    ],
)
def test_fate_of_says_what_became_of_a_trial(trial: Any, search: Any, words: str):
    known = {"validation": {"accuracy": {"mean": 0.4}}, "epochs": 0}
    assert fate_of({**known, **trial}, {"search": search}) == words


@pytest.mark.thorough
def test_trials_that_diverged_are_marked_without_an_accuracy_and_listed_in_words():
    def diverge(content: Any) -> None:
        trial = next(t for t in content["trials"] if t["state"] == "complete")
        nothing = {"mean": None, "std": None, "values": [None] * 3}
        trial |= {"score": 0.0, "epochs": 0, "curve": [], "validation": {"accuracy": nothing, "loss": nothing}}

    folder = changed(diverge)
    panels = {panel.name: panel for panel in build_page([folder]).panels()}
    for name, value in (("accuracy-by-lambda", "y"), ("accuracy-by-lambda-and-eta-max", "v")):
        kind = "s" if value == "y" else "kind"
        assert [row[value] for row in panels[name].rows if row[kind] == DIVERGED] == [None]
    assert "11 complete, 3 pruned, 1 diverged, 1 failed" in text_of(folder)
    head, rows = table_of(folder, "trials")
    at = head.index("epochs")
    assert [row[at] for row in rows if "diverged in its first epoch" in row] == ["-"]
    assert head[:4] == ["trial", "round", "state", "validation accuracy"]


def test_page_says_whether_chance_tells_the_best_trials_apart():
    found = json.loads((search(Path("found")) / "search.json").read_text())
    for trial in found["trials"]:
        trial["settings"] = {**trial["settings"]}
    close, near = close_of(found)
    assert close is not None
    complete = [t["validation"]["accuracy"] for t in found["trials"] if t["state"] == "complete"]
    margin = 2 * np.sqrt(np.mean([value["std"] ** 2 for value in complete]) * 2 / 3)
    best = max(value["mean"] for value in complete)
    assert close.margin == pytest.approx(margin)
    assert len(near) == sum(best - value["mean"] <= margin for value in complete)


@pytest.mark.thorough
def test_commands_train_the_trials_that_chance_does_not_tell_apart_with_more_seeds():
    def flatten(content: Any) -> None:
        for number, trial in enumerate(t for t in content["trials"] if t["state"] == "complete"):
            trial["validation"]["accuracy"]["mean"] = 0.5 - 1e-4 * number
            trial["settings"] = {"lambda": 10.0 ** -(1 + number % 4), "eta_max": 0.01 * (1 + number)}
        best = next(t for t in content["trials"] if t["state"] == "complete")
        content["best"] = {name: best[name] for name in ("trial", "settings", "validation")}

    folder = changed(flatten)
    (folder / "best.toml").write_text("")
    shown = text_of(folder)
    assert "All 12 complete trials cannot be told apart" in build_page([folder]).conclusion
    assert f"xpnet train --config {folder}/best.toml --runs 6\n" in shown
    assert f"xpnet train --config {folder}/best.toml --runs 6 --lambda 0.01 --eta-max 0.02" in shown


def test_commands_quote_what_a_damaged_file_says_and_leave_out_what_cannot_be_trained():
    found: dict[str, Any] = {"space": {"activation": {}, "depth": {}}, "settings": {"hidden": [5]}}
    best = {"activation": "relu", "depth": 1}
    assert _differences(found, best, {"activation": "tanh", "depth": 2}) == {"activation": "tanh", "hidden": [5, 5]}
    assert _differences(found, best, {"activation": "tanh", "depth": 10**12}) == {}
    assert _differences(found, best, {"activation": "tanh", "depth": "many"}) == {}
    assert _differences({**found, "space": {"eta": {}, "eta_max": {}}}, {"eta": 1}, {"eta": 2}) == {}

    def poison(content: Any) -> Any:
        for trial in content["trials"]:
            trial["settings"] = {"activation": "relu" if trial["trial"] else "; echo 'mine'"}
            trial["score"] = 0.5
        return {"space": {"activation": {"draw": "list"}}}

    folder = changed(poison)
    (folder / "best.toml").write_text("")
    commands = [line for line in text_of(folder).splitlines() if "--activation" in line]
    assert "; echo 'mine'" in [shlex.split(line)[-1] for line in commands]


def test_one_trial_shows_no_effect():
    shown = text_of(changed(lambda content: None, trials=1))
    assert "One trial shows no effect of a setting" in shown
    assert "cannot be told apart" not in shown


@pytest.mark.thorough
def test_winner_of_a_search_with_a_budget_gets_advice_that_fits(monkeypatch: pytest.MonkeyPatch):
    small(out="run")
    metrics = json.loads(Path("run/metrics.json").read_text())
    few = "18 steps are few, and what comes of fewer than 300 says little about the settings; try epochs = 50, which."
    text = "The network was still learning when it ended: it was. Try more epochs or a larger learning rate."
    metrics |= {"warnings": [few], "conclusion": {"text": text, "rule": "still-learning"}}
    Path("run/metrics.json").write_text(json.dumps(metrics))
    folder = search(Path("found"), winner=Path("run"))
    content = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps(content | {"search": {"budget": 0.1}}))
    shown = text_of(folder)
    assert "try budget = 1.8, or smaller networks" in shown
    assert "it was. Try a larger budget (--budget) or a smaller network" in shown
    assert "more epochs or" not in shown
    assert "larger learning rate" not in shown.partition("it was. Try")[2].partition("\n")[0]  # eta was searched


def test_search_panels_of_many_settings_have_no_pairs():
    found = json.loads((search(Path("found")) / "search.json").read_text())
    more = ("momentum", "label_smoothing", "dropout")
    for number, trial in enumerate(found["trials"]):
        trial["settings"] |= dict.fromkeys(more, 0.01 * number)
    found["space"] |= {name: {"draw": "uniform", "low": 0, "high": 1} for name in more}
    assert [panel.name for panel in search_panels(found)] == [
        *("accuracy-by-lambda", "accuracy-by-eta-max", "accuracy-by-momentum"),
        *("accuracy-by-label-smoothing", "accuracy-by-dropout"),
    ]


@pytest.mark.thorough
def test_trials_of_no_known_state_are_listed_and_not_drawn():
    def change(content: Any) -> None:
        content["trials"][0]["state"] = "failed"  # after epochs that gave it a curve
        content["trials"][1]["state"] = "suspended"
        assert len(content["trials"][1]["curve"]) > 1

    folder = changed(change)
    drawn = charts_of(page_of(folder)[0])["trial-curves"]["data"]["values"]
    assert {row["d"].split(",")[0] for row in drawn}.isdisjoint({"trial 0", "trial 1"})
    assert "suspended" in text_of(folder)


def test_a_search_inside_a_cycle_advises_whole_cycles_and_says_why_nothing_was_pruned():
    def shorten(content: Any) -> None:
        content["trials"] = [
            trial | {"state": "complete"} for trial in content["trials"] if trial["state"] == "complete"
        ]
        content["settings"] |= {"n_s": "5ep", "epochs": 6}
        content["settings"].pop("cycles", None)
        content["search"] = {"prune": "halving"}
        content["command"] = "xpnet search lambda eta --epochs 6 --out elsewhere/found -q"

    folder = changed(shorten)
    (folder / "best.toml").write_text("")
    page, shown = build_page([folder]), text_of(folder)
    assert page.conclusion.startswith(
        "Every trial ended inside a cycle of the learning rate, at 80 % of the highest rate"
    )
    assert "No trial was pruned (--prune halving): trials are compared at the end of a cycle" in shown
    assert "which takes 10 epochs, and these had 6 in all." in shown
    assert re.search(r"best\.toml --runs \d --epochs 10\n", shown)
    assert "xpnet search lambda eta -q --epochs 10\n" in shown
    assert f"xpnet search lambda eta --epochs 6 --out {folder} -q" in shown
