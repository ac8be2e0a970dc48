"""What is made of result files: a verdict, and pages."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from bench_cases import result

from bench.__main__ import main
from bench.page import ROOT, chart, fill, pages, slots
from bench.results import BenchError, newest, read, write
from bench.tables import short
from xpnet.report import render


def save(name: str, content: dict) -> str:
    Path(name).write_text(json.dumps(content))
    return name


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_another_machine_pass(seed):
    old = save("old.json", result())
    for machine in (1.0, 2.5):
        new = save("new.json", result(seed=seed + 1, noise=0.03, machine=machine))
        assert main(["compare", old, new]) == 0


@pytest.mark.parametrize("machine", [0.5, 1.0, 2.0])
def test_a_slower_xpnet_fails(capsys, machine):
    old, new = save("old.json", result()), save("new.json", result(speed=1.2, seed=1, machine=machine))
    assert main(["compare", old, new]) == 1
    out = capsys.readouterr().out
    assert out.count("SLOWER") == 2
    assert "torch.compile" in out
    assert main(["compare", new, old]) == 0


def test_a_slower_peer_is_no_regression_and_much_noise_explains_more():
    old, slower = result(), result()
    row = slower["suites"]["epoch"]["cases"]["a"]["rows"]["torch.compile"]
    row["values"] = [2 * value for value in row["values"]]
    assert main(["compare", save("old.json", old), save("new.json", slower)]) == 0
    noisy = [save(f"{n}.json", result(speed=s, noise=0.3, seed=n)) for n, s in ((3, 1.0), (4, 1.1))]
    assert main(["compare", *noisy]) == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("[]", "is not a result of this version"),
        ('{"format": "xpnet-bench-2"}', "is not a whole result"),
        (json.dumps(result()).replace('"q1": ', '"q1": null, "": '), "is not a whole result"),
        (json.dumps(result() | {"suites": {}}), "have no suite, case and contender in common"),
        (json.dumps(result()).replace('"steps": 450', '"steps": 9'), "steps = 450 in the one and 9 in the other"),
    ],
)
def test_wrong_files_are_one_sentence(capsys, content, sentence):
    old = save("old.json", result())
    if content is not None:
        Path("new.json").write_text(content)
    assert main(["compare", old, "new.json"]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_files_are_written_once_and_read_again():
    path = Path("result.json")
    write(path, result())
    assert read(path)["suites"]["epoch"]["seconds"] == 10
    with pytest.raises(BenchError, match="exists"):
        write(path, result())
    with pytest.raises(BenchError, match="No such file"):
        write(Path("none/result.json"), result())


def test_the_newest_result_of_each_suite_is_taken():
    later = result(speed=2)
    later["machine"]["date"] = "2026-02-01"
    save("a-later.json", later)
    save("b-earlier.json", result())
    save("c-of-another-format.json", {"machine": {}})
    found = newest(Path())
    assert found["epoch"][0].name == "a-later.json"
    only_startup = result()
    only_startup["machine"]["date"] = "2026-03-01"
    only_startup["suites"] = {"startup": only_startup["suites"].pop("epoch")}
    save("d.json", only_startup)
    assert {suite: path.name for suite, (path, _) in newest(Path()).items()} == {
        "epoch": "a-later.json",
        "startup": "d.json",
    }


def test_tables_and_the_claim_hold_the_figures_and_their_source():
    save("one.json", result(noise=0.0))
    texts = slots(newest(Path()))
    table = texts["epoch"]
    assert "| **xpnet numpy** | 0.27 (0.27) |" in table
    assert "| floor | 0.18 (0.18) |" in table
    assert "| floor / xpnet numpy | 67 % |" in table
    assert "| evaluation / training | 5 % |" in table
    assert "jax is not installed" in table
    assert "`python -m bench epoch`, 2026-01-02, commit abc1234" in table
    assert "200 GFLOP/s" in table
    assert texts["claim"] == (
        "An epoch of 3072-50-50-10 with BN on 45,000 samples takes 0.27 s on 2 cores of an Abacus: 1.2 times as fast "
        "as torch.compile, 67 % of the speed of NumPy's gather and products alone "
        "(medians, `python -m bench epoch`, 2026-01-02)."
    )
    assert "OpenBLAS 0.3 (Haswell), 2 threads; OPENBLAS_CORETYPE=Haswell" in texts["machine"]
    assert texts["population"] == "Not measured yet."
    assert slots({})["claim"] == "Not measured yet."


def test_a_population_is_a_column_for_each_size():
    found = result(noise=0.0)
    case = found["suites"]["epoch"]["cases"]["a"]
    five = case | {"what": f"5 networks {case['what']}", "steps": 45, "scaled": True}
    found["suites"] = {"population": {"cases": {"1": case, "5": five}, "seconds": 1.0}}
    save("one.json", found)
    table = slots(newest(Path()))["population"]
    assert "| s an epoch: median (min) | R = 1 | R = 5 |" in table
    assert "Timed: 45 steps a round, scaled to an epoch." in table
    assert "Networks: 3072-50-50-10 with BN, batch 100." in table


def test_a_contender_that_computed_something_else_is_named():
    found = result()
    found["suites"]["epoch"]["cases"]["a"]["agreement"]["contenders"]["torch.compile"]["agrees"] = False
    save("one.json", found)
    assert "Did not compute the same: torch.compile (a)." in slots(newest(Path()))["epoch"]


def test_only_what_stands_between_marks_is_replaced():
    text = "before\n<!-- bench:claim -->\nold\n<!-- /bench:claim -->\nafter\n"
    assert fill(text, {"claim": "new"}) == text.replace("old", "new")
    assert fill(fill(text, {"claim": "new"}), {"claim": "new"}) == text.replace("old", "new")
    with pytest.raises(BenchError, match="no such slot"):
        fill("<!-- bench:nothing -->", {"claim": ""})
    with pytest.raises(BenchError, match="not closed"):
        fill("<!-- bench:claim -->", {"claim": ""})


def test_pages_and_figure_are_written_and_checked(tmp_path, capsys):
    Path("docs").mkdir()
    Path("results").mkdir()
    Path("README.md").write_text("<!-- bench:claim -->\n<!-- /bench:claim -->\n")
    Path("docs/performance.md").write_text("<!-- bench:epoch -->\n<!-- /bench:epoch -->\n")
    save("results/one.json", result())
    where = ["--root", str(tmp_path), "--results", "results"]
    assert main(["page", "--check", *where]) == 1
    assert main(["page", *where]) == 0
    assert main(["page", "--check", *where]) == 0
    assert main(["page", *where]) == 0  # the figure is replaced
    assert "torch.compile" in Path("docs/images/performance.svg").read_text()
    assert Path("docs/images/performance.png").stat().st_size > 1000
    save("results/two.json", result(speed=3) | {"command": "another"})
    assert main(["page", "--check", *where]) == 1


@pytest.mark.pictures
def test_the_figure_has_every_contender():
    values = json.dumps(chart(result()["suites"]["epoch"]["cases"]).to_dict())
    assert all(f'"{who}"' in values for who in ("xpnet numpy", "torch.compile", "floor"))
    svg = html.unescape(render.svg(chart(result()["suites"]["epoch"]["cases"]).to_dict()))
    assert all(f">{kind}</text>" in svg for kind in ("xpnet", "floor: NumPy's gather and products alone", "others"))


def test_a_deep_network_is_called_by_its_layers():
    assert short("3072-50-30-20-20-10-10-10-10-10 with BN, batch 100") == "9 layers with BN, batch 100"
    assert short("3072-50-50-10 with BN, batch 100") == "3072-50-50-10 with BN, batch 100"


def test_the_projects_pages_are_what_the_newest_results_give():
    for path, text in pages(ROOT, newest()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m bench page"
