"""What stands on the pages, without a browser."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from page_checks import Tags, charts_of, check_whole, page_of
from report_cases import small

import xpnet
from xpnet.cli import main
from xpnet.errors import RunError
from xpnet.report.charts import metric_curves
from xpnet.report.inspection import image_shape, picture_of, to_bytes, weight_pictures
from xpnet.report.records import read_run
from xpnet.report.result_section import result
from xpnet.report.run_page import _curves as curves_of
from xpnet.report.theme import COLOURS
from xpnet.report.write import build_page
from xpnet.training.chance_level import wilson

pytestmark = pytest.mark.pictures


def test_the_page_of_lists_tells_every_network():
    folder = small("--lambda", "0.001,0.1", "--runs", "2", out="run")
    text, tags = page_of(folder)
    check_whole(text, tags)
    metrics = json.loads((folder / "metrics.json").read_text())
    shown = "".join(tags.text)
    for row in metrics["replicas"]:
        assert f"{100 * row['test']['accuracy']:.2f} %" in shown
    best = max((0, 1), key=lambda c: metrics["validation"]["accuracy"]["values"][c::2])
    assert f"the best by validation accuracy: lambda = {(0.001, 0.1)[best]}" in shown
    rows = charts_of(text)["accuracy-by-lambda"]["data"]["values"]
    assert len(rows) == 8
    points = [row["l"] for row in charts_of(text)["loss"]["data"]["values"]]
    assert len(points) == 6


@pytest.mark.thorough
def test_page_says_what_one_seed_a_setting_and_training_figures_of_curves_mean():
    once = "".join(page_of(small("--lambda", "0.001,0.1", "--runs", "1", out="once"))[1].text)
    metrics = json.loads(Path("once/metrics.json").read_text())
    accuracy, samples = metrics["validation"]["accuracy"]["mean"], metrics["samples"]["validation"]
    error = 100 * (accuracy * (1 - accuracy) / samples) ** 0.5
    assert f"a standard error of {error:.2f} points. --runs 3 trains each setting three times" in once
    assert "Training curves are measured during each epoch, while the network changes, so they end at " in once
    assert "of all 2 networks, on cpu" in once
    twice = small("--lambda", "0.001,0.1", "--runs", "2", "--train-metrics", "full", out="twice")
    twice = "".join(page_of(twice)[1].text)
    assert "Each setting was trained once" not in twice
    assert "Training curves are measured" not in twice
    networks = next(one for one in build_page([Path("twice")]).sections if one.name == "networks").blocks
    assert networks[0].head[-4:] == ["validation accuracy", "validation loss", "test accuracy", "test loss"]
    assert networks[-1].head[-3:] == ["test accuracy", "validation loss", "test loss"]
    (known,) = (block for block in build_page([Path("once")]).sections[0].blocks if block.kind == "facts")
    assert known.items[3] == ("Always one class", "10.00 %", "of the test set, where 10 classes are equally frequent")
    three = page_of(small("--runs", "3", "--dropout", "0.1", "--flip", "random", "--shift", "1", out="three"))[1].text
    three = "".join(three)
    assert "while the network changes (with dropout and changed pictures), so they end at " in three
    assert "mean and standard deviation of 3 seeds; standard error " in three
    assert re.search(
        r"Averaging the 3 networks: test \d+\.\d\d %, [+-]\d\.\d points \(xpnet predict three does so\)", three
    )
    assert "To classify a picture:" in three
    assert "networks, on cpu" not in "".join(page_of(small(out="single"))[1].text)


@pytest.mark.thorough
def test_the_page_of_a_cross_validated_run_has_the_figures_of_every_fold():
    folder = small("--cv", "3", "--lambda", "0.001,0.1", "--runs", "2", out="run")
    text, tags = page_of(folder)
    check_whole(text, tags)
    replicas = json.loads((folder / "metrics.json").read_text())["replicas"]
    accuracies = np.array([row["cv"]["accuracy"]["values"] for row in replicas])  # of two lambdas, by seed
    best = max((0, 1), key=lambda at: accuracies[at::2].mean())
    points = charts_of(text)["folds"]["data"]["values"]
    assert sorted(row["y"] for row in points) == sorted(accuracies[best::2].ravel())
    shown = "".join(tags.text)
    assert f"Best by the mean accuracy of the folds: lambda = {(0.001, 0.1)[best]}." in shown
    for own in (accuracies[0::2], accuracies[1::2]):
        assert f"{100 * own.mean():.2f} ± {100 * own.std(ddof=1):.2f} %" in shown
        assert f"{100 * own[:, 2].mean():.2f} ± {100 * own[:, 2].std(ddof=1):.2f} %" in shown
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["cv"]["folds"] = 10**15  # of which the file has no figures
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert (
        "The figures of the folds in metrics.json are not those of its networks."
        in page_of(folder, out="again.html")[0]
    )


def test_the_confusion_matrix_is_that_of_evaluate(capsys):
    folder = small(out="run")
    capsys.readouterr()
    main(["evaluate", "run", "--json", "--quiet"])
    confusion = np.array(json.loads(capsys.readouterr().out)["confusion"])
    page = build_page([folder])
    panel = next(panel for panel in page.panels() if panel.name == "confusion")
    counts = np.array([row["n"] for row in panel.rows]).reshape(confusion.shape)
    np.testing.assert_array_equal(counts, confusion)
    section = next(section for section in page.sections if section.name == "mistakes")
    words, gallery = section.blocks
    assert f"gets {confusion.sum() - np.trace(confusion):,} wrong" in words.words
    assert len(gallery.pictures) == 24
    # Worst first: the same by hand.
    net, data = xpnet.load(folder), xpnet.load_data("patterns:600/200")
    p = net.predict_proba(data.test.x)[0]
    wrong = np.flatnonzero(p.argmax(axis=1) != data.test.labels)
    worst = wrong[np.argsort(p[wrong, data.test.labels[wrong]])][0]
    assert gallery.pictures[0].alt.startswith(f"Test sample {worst}: {data.class_names[data.test.labels[worst]]},")


@pytest.mark.slow
def test_the_committed_reproduction_is_the_page_of_its_results():
    folder = Path(__file__).parents[2] / "docs" / "reproduction"
    text = (folder / "index.html").read_text()
    check_whole(text, Tags(text))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    page = build_page([folder])
    assert set(charts_of(text)) == {panel.name for panel in page.panels()}
    made = {panel.name: panel for panel in page.panels()}
    for name, spec in list(charts_of(text).items())[::12]:
        rows = spec["data"]["values"]
        assert [row["x"] for row in rows] == pytest.approx([row["x"] for row in made[name].rows], rel=1e-5)
        field = "y" if "v" not in rows[0] else "v"
        assert [row[field] for row in rows] == pytest.approx([row[field] for row in made[name].rows], rel=1e-4)
    shown = "".join(Tags(text).text)
    assert "2026-11-21" in shown
    assert "AMD EPYC" in shown
    assert "xpnet reproduce all" in shown


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"A.bn3": {"cells": 3}}', r"results.json: is not what xpnet reproduce writes"),
        ("{}", "has no experiment"),
    ],
)
def test_results_of_no_reproduction_are_refused(content, sentence):
    Path("r").mkdir()
    Path("r/results.json").write_text(content)
    with pytest.raises(RunError, match=sentence):
        build_page([Path("r")])


def test_pictures_hold_the_pixels(blobs):
    import io

    from PIL import Image

    def pixels(source: str) -> np.ndarray:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            return np.asarray(image)

    x = np.arange(12, dtype=np.uint8)
    np.testing.assert_array_equal(pixels(picture_of(x, (3, 2, 2))), x.reshape(3, 2, 2).transpose(1, 2, 0))
    assert pixels(picture_of(x, (1, 3, 4))).tolist() == x.reshape(3, 4).tolist()
    W = np.array([[-2.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert pixels(weight_pictures(W, (1, 2, 2))[0]).tolist() == [[0, 191], [255, 128]]
    assert image_shape(blobs) is None
    assert image_shape(xpnet.load_data("patterns:100/20")) == (3, 32, 32)
    greys = xpnet.data_from_arrays(np.random.default_rng(0).random((50, 784)), np.arange(50) % 2)
    assert image_shape(greys) == (1, 28, 28)
    assert to_bytes(np.array([0.0, 0.5, 1.0]), greys).tolist() == [0, 128, 255]


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * c for c in digits)
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrasts_are_those_of_wcag_aa(theme):
    css = (Path(xpnet.__file__).parent / "report" / "templates" / "page.css").read_text()
    blocks = re.findall(r":root\{([^}]*--page[^}]*)\}", css)
    colours = dict(re.findall(r"--([\w-]+):(#\w+)", blocks[theme]))
    for ground in ("page", "shade"):
        for ink in ("ink", "soft", "link"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["ink"], colours["mark"]) >= 4.5
    for colour in COLOURS:
        assert contrast(colour, colours["page"]) >= 3, colour


def test_labels_of_any_length_leave_a_page_of_usual_size():
    labels = [f"{'x' * 50_000}{end}" for end in "ab"]
    rows = [f"{i % 7},{i % 5},{labels[i % 2]}" for i in range(60)]
    Path("long.csv").write_text("\n".join(["p,q,label", *rows]) + "\n")
    text, tags = page_of(small(out="run", data="long.csv"))
    check_whole(text, tags)
    assert "x" * 100 not in text
    assert "x" * 100 not in json.dumps(charts_of(text))
    assert f"{'x' * 60}\N{HORIZONTAL ELLIPSIS} (1)" in text


def test_colours_of_charts_on_the_dark_page_have_a_contrast_of_four_and_a_half():
    """WCAG 2.2, contrast (minimum), for lines as for text."""

    def luminance(colour: str) -> float:
        shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    css = (Path(xpnet.__file__).parent / "report" / "templates" / "page.css").read_text()
    ground = re.search(r"prefers-color-scheme:dark\)\{:root\{--page:(#\w{6})", css)[1]
    brighter = dict(re.findall(r'\[stroke="(#\w{6})"\]\{stroke:(#\w{6})\}', css))
    assert brighter == dict(re.findall(r'\[fill="(#\w{6})"\]\{fill:(#\w{6})\}', css))
    assert set(brighter) == set(COLOURS)
    for colour in brighter.values():
        assert (luminance(colour) + 0.05) / (luminance(ground) + 0.05) >= 4.5


def test_loss_and_cost_share_a_chart_where_they_hardly_differ():
    small("--lambda", "0", out="free")
    names = [panel.name for panel in build_page([Path("free")]).panels()]
    assert ("cost" in names, "loss" in names) == (False, True)


@pytest.mark.slow
def test_page_of_a_table_has_scores_calibration_and_the_importance_of_named_features():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'high' if b > 0 else 'low'}" for a, b, c in x]
    Path("mine.csv").write_text("\n".join(["width,weight,age,size", *lines]) + "\n")
    settings = ["--data", "mine.csv", "--target", "size", "--hidden", "6", "--epochs", "30", "--batch-size", "20"]
    main(["train", *settings, "--out", "run", "--quiet"])
    sections = {section.name: section for section in build_page([Path("run")]).sections}
    importance = sections["importance"].blocks[-1]
    assert importance.rows[0][0].text == "weight"
    assert {row[0].text for row in importance.rows} == {"width", "weight", "age"}
    by_class = sections["classes"].blocks[-1]
    assert by_class.head[1:5] == ["accuracy (recall)", "precision", "F1", "AUC"]
    assert float(by_class.rows[0][4].text) > 0.9
    (few,) = sections["probabilities"].blocks
    assert few.words == "30 test samples are too few to judge the probabilities."
    assert importance.head == ["feature", "points lost"]
    assert "One of its 30 rows is 3.33 points." in sections["importance"].blocks[0].words
    assert "Of mine.csv, column size is predicted; 243 training, 27 validation and 30 test rows." in [
        block.words for block in sections["result"].blocks if block.kind == "text"
    ]
    assert sections["weights"].blocks[0].words == "Large weights do not mean important features."
    assert {row["x"] for row in sections["weights"].blocks[1].panels[0].rows} == {"width", "weight", "age"}
    assert not {"flip", "shift", "views", "pool"} & {row[0].text for row in sections["settings"].blocks[0].rows}
    assert "xpnet predict run new.csv" in [block.words for block in sections["again"].blocks]
    assert not any("-0.00 " in row[1].text for row in importance.rows)
    assert "importance" not in {section.name for section in build_page([small(out="pictures")]).sections}


@pytest.mark.thorough
def test_page_explains_the_calibration_chart_and_names_the_loss_once():
    one, three = (
        "".join(page_of(small(*more, out=out))[1].text) for out, more in (("one", ()), ("3", ("--runs", "3")))
    )
    page = build_page([Path("one")])
    section = next(section for section in page.sections if section.name == "probabilities")
    panel = next(panel for panel in page.panels() if panel.name == "calibration")
    counts = [row["n"] for row in panel.rows if row["s"] == "share that is right"]
    assert sum(counts) <= 200
    assert min(counts) >= 10
    assert section.blocks[1].words.startswith(f"Each circle is a group of {min(counts)} to {max(counts)} test samples")
    assert "The square is where the circle would be if" in one
    for text in (one, three):
        assert "log-loss" not in text.lower()
        assert "loss is the mean cross-entropy, cost is the loss and the L2 penalty" in text
    assert "The test loss of the mean of their probabilities is " in three
    assert "The test loss of the mean" not in one
    assert "training time of an epoch, median" in one


def test_page_names_what_is_not_the_default_and_never_predicted():
    page = build_page([small("--eta-max", "2", "--no-batch-norm", out="run")])
    assert page.subtitle.endswith(" without batch normalisation (BN), eta_max = 2, epochs = 3")
    classes = next(section for section in page.sections if section.name == "classes").blocks
    never = {row[0].text for row in classes[-1].rows if row[2].text == "never predicted"}
    if never:
        assert any(getattr(block, "words", "").startswith("Never predicted: ") for block in classes)


def test_curves_cut_off_say_so_in_their_title():
    values = np.r_[9.0, 8.0, np.linspace(1, 0.5, 20)]
    panel = metric_curves("loss", "Loss", "", "loss", [("training", np.arange(22), values)])
    assert panel.title.startswith("Loss, cut off above ")
    assert metric_curves("loss", "Loss", "", "loss", [("training", np.arange(20), values[2:])]).title == "Loss"


def test_curves_whose_cost_falls_while_the_loss_rises_say_why():
    record = read_run(small(out="run"))
    history = {
        **record.history,
        "train_cost": np.array([[4.0], [3.0], [2.0]]),
        "train_loss": np.array([[1.8], [1.9], [2.0]]),
    }
    words = [block.words for block in curves_of(dataclasses.replace(record, history=history), {}, [0], "")[:-1]]
    assert any(
        one.startswith("The training cost ended below, and the training loss above, its first value") for one in words
    )


def test_result_of_settings_that_are_tied_says_so():
    record = read_run(small("--lambda", "0.001,0.1", "--runs", "2", out="run"))
    best, members = record.best()
    conclusion = {"text": "", "rule": "alike", "evidence": {"tied": [{"lambda": 0.5}]}}
    record = dataclasses.replace(record, metrics={**record.metrics, "conclusion": conclusion})
    words = result(record, best, members, None)[0].words
    assert words.endswith(
        f"lambda = {best['lambda']}, which is tied with lambda = 0.5: chance explains the difference."
    )
    broken = {**record.metrics, "conclusion": {"evidence": {"tied": [3]}}}
    assert dataclasses.replace(record, metrics=broken).tied == []


@pytest.mark.parametrize(
    ("right", "samples", "low", "high"), [(56, 57, 90.7, 99.7), (0, 10, 0, 27.8), (10, 10, 72.2, 100)]
)
def test_wilson_is_scipys_interval(right: int, samples: int, low: float, high: float):
    found = wilson(right / samples, samples)
    assert [round(100 * edge, 1) for edge in found] == [low, high]
    stats = pytest.importorskip("scipy.stats")
    assert found == pytest.approx(tuple(stats.binomtest(right, samples).proportion_ci(0.95, "wilson")), abs=1e-9)


def test_settings_of_a_page_have_what_was_set_in_bold_and_what_nobody_set():
    given = [
        "--patience",
        "2",
        "--momentum",
        "0.5",
        "--class-weight",
        "balanced",
        "--flip",
        "random",
        "--restore",
        "best",
    ]
    for changed, out in ((given, "run"), ([], "plain")):
        section = next(one for one in build_page([small(*changed, out=out)]).sections if one.name == "settings")
        rows = {row[0].text: row[1] for row in section.blocks[0].rows}
        bold = {name for name, cell in rows.items() if cell.strong}
        wanted = {option[2:].replace("-", "_") for option in changed[::2]} | {"data", "hidden", "epochs"}
        assert bold - {"figures", "device"} == wanted
        assert "cycles" not in rows
    assert (rows["patience"].text, rows["class_weight"].text) == ("trains to the end", "1 for each class")


def test_page_of_small_pictures_draws_the_first_layer_and_gives_accuracies_their_error():
    rng = np.random.default_rng(0)
    np.savez("small.npz", x=rng.integers(0, 255, (200, 6, 5), np.uint8), y=np.arange(200) % 2)
    folder = small(out="run", data=str(Path("small.npz").absolute()))
    sections = {section.name: section for section in build_page([folder]).sections}
    words, gallery = sections["weights"].blocks
    assert "Hidden units by the norm of their weights" in words.words
    assert len(gallery.pictures) == 6
    metrics = json.loads((folder / "metrics.json").read_text())
    accuracy, samples = metrics["test"]["accuracy"], metrics["samples"]["test"]
    low, high = (100 * edge for edge in wilson(accuracy, samples))
    (facts,) = (block for block in sections["result"].blocks if block.kind == "facts")
    assert facts.items[0][2] == f"95 % interval {low:.3g} to {high:.3g} % for {samples} samples"


def test_comparison_concludes_whether_the_best_two_runs_differ():
    page = build_page([small(out="one"), small(out="other")])
    assert (
        page.conclusion
        == "one and other do not differ by more than the test samples' chance: 0.00 points apart on the test set."
    )
