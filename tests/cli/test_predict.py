"""``xpnet predict``, and ``xpnet evaluate`` on other data: sizes and names are brought together."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import data_files
import numpy as np
import pytest
from command_line import run
from PIL import Image

import xpnet


@pytest.fixture
def pictures(capsys) -> list[str]:
    """Train on red and blue images of 8 x 6, and return some of them."""
    data_files.write_images(Path("pictures"), 30)
    code, _, err = run(
        capsys,
        "train",
        "--data",
        "pictures",
        "--epochs",
        "10",
        "--batch-size",
        "7",
        "--drop-last",
        "--hidden",
        "4",
        "--out",
        "run",
    )
    assert code == 0, err
    return ["pictures/red/0.png", "pictures/blue/1.png"]


@pytest.fixture
def pets(capsys) -> str:
    data_files.write_csv(Path("pets.csv"), 150)
    arguments = ["--target", "animal", "--epochs", "10", "--batch-size", "8", "--hidden", "8", "--runs", "3"]
    code, _, err = run(capsys, "train", "--data", "pets.csv", *arguments, "--drop-last", "--out", "run")
    assert code == 0, err
    return "pets.csv"


def predicted(capsys, *arguments: str) -> tuple[dict, str]:
    code, out, err = run(capsys, "predict", *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


def test_images_get_the_name_of_their_class(capsys, pictures):
    result, err = predicted(capsys, "run", *pictures)
    assert [p["class"] for p in result["predictions"]] == ["red", "blue"]
    assert [p["input"] for p in result["predictions"]] == pictures
    assert err == ""
    net = xpnet.load("run")
    x = np.asarray(Image.open(pictures[0])).transpose(2, 0, 1).reshape(1, -1)
    probabilities = net.predict_proba(x)[0, 0]
    assert list(result["predictions"][0]["probabilities"].values()) == pytest.approx(probabilities.tolist())
    assert sum(result["predictions"][0]["probabilities"].values()) == pytest.approx(1)
    assert (net.image_shape, result["classes"]) == ((3, 6, 8), ["blue", "red"])


def test_images_of_other_sizes_come_with_a_line_that_says_so(capsys, pictures):
    Image.new("RGBA", (640, 480), (200, 20, 10, 255)).save("large.png")
    Image.new("L", (30, 40), 90).save("gray.jpg")
    Path("broken.png").write_text("x")
    code, out, err = run(capsys, "predict", "run", "large.png", "gray.jpg", "broken.png", pictures[1])
    assert code == 0
    assert "brought 2 of 3 images from 2 sizes to the network's 6x8" in err
    assert "broken.png: left out (no image)" in err
    line = next(line for line in out.splitlines() if "large.png" in line)
    assert "red" in line
    code, _, err = run(capsys, "predict", "run", "broken.png")
    assert (code, err) == (2, "xpnet: broken.png: left out (no image)\n")
    result, err = predicted(capsys, "run", "pictures/red", "large.png")
    assert "brought 1 of 31 images from 480x640 to the network's 6x8" in err
    assert len(result["predictions"]) == 31


def test_arrays_of_images(capsys, pictures):
    images = np.stack([np.asarray(Image.open(path)) for path in pictures])
    np.savez("m.npz", x=images)
    expected, _ = predicted(capsys, "run", *pictures)
    result, err = predicted(capsys, "run", "m.npz")
    assert [p["probabilities"] for p in result["predictions"]] == [p["probabilities"] for p in expected["predictions"]]
    np.save("large.npy", images.repeat(4, axis=1).repeat(4, axis=2))
    result, err = predicted(capsys, "run", "large.npy")
    assert [p["class"] for p in result["predictions"]] == ["red", "blue"]
    assert "brought 2 images from 24x32 in 3 channels to the network's 6x8 in 3" in err
    np.savez("two.npz", a=images, b=images)
    assert "has the arrays a, b; the features must be called x" in run(capsys, "predict", "run", "two.npz")[2]


def test_a_table_is_read_by_the_names_of_its_columns(capsys, pets):
    result, err = predicted(capsys, "run", pets)
    assert "left out 1 of 5 columns, which the network does not know" in err
    assert "mean probabilities of the 3 networks of run" in err
    names, x, labels = data_files.table(150)
    net = xpnet.load("run")
    wanted = net.predict_proba(x).mean(axis=0)
    got = np.array([list(p["probabilities"].values()) for p in result["predictions"]])
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert np.mean([p["class"] == label for p, label in zip(result["predictions"], labels, strict=True)]) > 0.8
    # The same columns in another order, and no labels.
    with Path("turned.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(names[::-1])
        rows.writerows(x[:, ::-1].tolist())
    turned, _ = predicted(capsys, "run", "turned.csv")
    assert turned["predictions"] == result["predictions"]
    Path("bare.csv").write_text(Path("turned.csv").read_text().split("\n", 1)[1])
    assert len(predicted(capsys, "run", "bare.csv")[0]["predictions"]) == 150


def test_csv_is_for_programs(capsys, pets):
    result, _ = predicted(capsys, "run", pets)
    code, out, _ = run(capsys, "predict", "run", pets, "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["input", "class", "probability", "p(cat)", "p(dog)", "p(emu)"]
    assert [row["class"] for row in rows] == [p["class"] for p in result["predictions"]]
    assert float(rows[3]["p(dog)"]) == pytest.approx(result["predictions"][3]["probabilities"]["dog"], rel=1e-5)
    assert run(capsys, "predict", "run", pets, "--csv", "--json")[0] == 2


def test_the_table_for_people_has_the_likeliest_of_many_classes(capsys):
    data_files.write_cifar100(Path("c"), "binary")
    code, _, err = run(
        capsys, "train", "--data", "c", "--epochs", "1", "--batch-size", "4", "--hidden", "3", "--out", "run"
    )
    assert code == 0, err
    np.savez("m.npz", x=data_files.cifar100(0)["data"])
    out = run(capsys, "predict", "run", "m.npz")[1]
    assert out.count("then") == 2
    assert len([line for line in out.splitlines() if " % " in line]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "nothing.png: there is no such file"),
        (["short.csv"], "short.csv: has no column tail, which the network was trained on"),
        (["wide.csv"], "wide.csv: has 5 features, and the network takes 4; --target names a column of labels"),
        (["missing.csv"], "missing.csv: line 2, column 1 (weight): the value is missing"),
        (["pets.csv", "short.csv"], "pets.csv: a table is predicted by itself"),
        (["image.png"], "the network was trained on the columns height, weight, age, tail"),
        (["m.npz", "--target", "x"], "is an array, whose columns have no names"),
        (["empty"], "the network was trained on the columns"),
    ],
)
def test_what_does_not_fit_is_one_sentence(capsys, pets, arguments, message):
    Path("short.csv").write_text("height,weight,age\n1,2,3\n4,5,6\n")
    Path("wide.csv").write_text("1,2,3,4,5\n1,2,3,4,5\n")
    Path("missing.csv").write_text("height,weight,age,tail\n1,,3,4\n")
    Image.new("L", (3, 3)).save("image.png")
    np.savez("m.npz", x=np.ones((2, 4)))
    Path("empty").mkdir()
    code, out, err = run(capsys, "predict", "run", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_long_label_is_cut_in_print():
    from xpnet.cli.console import safe

    assert len(safe("a" * 200_000)) < 220
    assert str(safe("cat")) == "cat"


def test_a_target_is_left_out(capsys, pets):
    Path("wide.csv").write_text("1,2,3,4,cat\n1,2,3,4,dog\n")
    assert len(predicted(capsys, "run", "wide.csv", "--target", "4")[0]["predictions"]) == 2


def test_labels_go_by_name_in_evaluate(capsys, pictures):
    _, out, _ = run(capsys, "evaluate", "run", "--on", "all", "--json")
    expected = json.loads(out)
    assert expected["samples"] == 60
    Path("pictures/blue").rename("pictures/zz")
    Path("pictures/red").rename("pictures/blue")
    Path("pictures/zz").rename("pictures/red")
    swapped = json.loads(run(capsys, "evaluate", "run", "--data", "pictures", "--on", "all", "--json")[1])
    assert swapped["accuracy"] == pytest.approx(1 - expected["accuracy"])
    Path("pictures/blue").rename("pictures/green")
    code, _, err = run(capsys, "evaluate", "run", "--data", "pictures")
    assert code == 2
    assert "has the class green, which is none of those known: blue, red" in err


@pytest.mark.pictures
def test_the_figure_has_what_the_table_says(capsys, pets):
    code, out, _ = run(capsys, "evaluate", "run", "--figure", "confusion", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["figure"] == ["confusion.png", "confusion.svg"]
    text = Path("confusion.svg").read_text()
    assert all(name in text for name in ("cat", "dog", "emu", "true class", "prediction"))
    for count in np.unique(result["confusion"]):
        assert f">{count}<" in text
    for share in result["per_class"].values():
        assert f"{100 * share:.1f} %" in text
    with Image.open("confusion.png") as image:
        assert image.width > 600
    code, _, err = run(capsys, "evaluate", "run", "--figure", "confusion")
    assert (code, "nothing is overwritten" in err) == (2, True)


def test_other_data_is_read_as_the_network_takes_it(capsys, pictures):
    expected = json.loads(run(capsys, "evaluate", "run", "--on", "all", "--json")[1])
    for path in Path("pictures").glob("*/*.png"):
        with Image.open(path) as image:
            large = image.convert("RGBA").resize((16, 12), Image.Resampling.NEAREST)
        large.save(path)
    code, out, err = run(capsys, "evaluate", "run", "--data", "pictures", "--on", "all", "--json")
    assert code == 0, err
    assert json.loads(out)["accuracy"] == pytest.approx(expected["accuracy"], abs=0.05)
    assert run(capsys, "evaluate", "run", "--data", "pictures", "--image-size", "5")[0] == 2


def test_columns_of_other_tables_go_by_name(capsys, pets):
    expected = json.loads(run(capsys, "evaluate", "run", "--on", "all", "--json")[1])
    names, x, labels = data_files.table(150)
    with Path("turned.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["extra", *names[::-1], "animal"])
        rows.writerows([i, *row, label] for i, (row, label) in enumerate(zip(x[:, ::-1].tolist(), labels, strict=True)))
    turned = json.loads(run(capsys, "evaluate", "run", "--data", "turned.csv", "--on", "all", "--json")[1])
    assert turned["confusion"] == expected["confusion"]
    Path("other.csv").write_text(Path("turned.csv").read_text().replace("tail", "fur"))
    code, _, err = run(capsys, "evaluate", "run", "--data", "other.csv")
    assert (code, "has no column tail, which the network was trained on" in err) == (2, True)


def trained_on(capsys, path: str, *more: str) -> dict:
    """Train on a table, and return what evaluating all of it gives."""
    arguments = ["--epochs", "6", "--batch-size", "8", "--hidden", "8", "--drop-last", "--out", "run", *more]
    code, _, err = run(capsys, "train", "--data", path, *arguments)
    assert code == 0, err
    return json.loads(run(capsys, "evaluate", "run", "--on", "all", "--json")[1])


def share_predicted(capsys, path: str, labels: list[str], *more: str) -> float:
    """Return the share of a table's rows that are predicted as `labels` say."""
    predictions = predicted(capsys, "run", path, *more)[0]["predictions"]
    assert len(predictions) == len(labels)
    return float(np.mean([p["class"] == label for p, label in zip(predictions, labels, strict=True)]))


def write_rows(path: str, header: list[str], *columns) -> None:
    with Path(path).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(header)
        rows.writerows(zip(*columns, strict=True))


def two_classes(rows: int = 80) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return two features, of which the first alone tells the classes apart, and labels."""
    rng = np.random.default_rng(2)
    c = np.arange(rows) % 2
    return (
        np.round(rng.normal(8.0 * c - 4, 1), 3),
        np.round(rng.normal(0, 1, rows), 3),
        ["no" if i else "yes" for i in c],
    )


@pytest.mark.parametrize("names", [["a", "a"], ["a", " a "], ["", " "]])
def test_columns_of_equal_names_are_taken_one_after_the_other(capsys, names):
    x, noise, labels = two_classes()
    write_rows("t.csv", [*names, "label"], x, noise, labels)
    expected = trained_on(capsys, "t.csv")
    assert share_predicted(capsys, "t.csv", labels) == pytest.approx(expected["accuracy"])
    assert expected["accuracy"] > 0.95
    write_rows("other.csv", [names[0], "label", names[1], "more"], x, labels, noise, noise)
    assert share_predicted(capsys, "other.csv", labels) == pytest.approx(expected["accuracy"])
    again = json.loads(run(capsys, "evaluate", "run", "--data", "other.csv", "--on", "all", "--json")[1])
    assert again["confusion"] == expected["confusion"]


def test_parquet_with_columns_of_equal_names(capsys):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x, noise, labels = two_classes()
    pq.write_table(pa.Table.from_arrays([x, noise, labels], names=["a", "a", "label"]), "t.parquet")
    expected = trained_on(capsys, "t.parquet")
    assert share_predicted(capsys, "t.parquet", labels) == pytest.approx(expected["accuracy"])
    assert expected["accuracy"] > 0.95
    write_rows("same.csv", ["a ", "a"], x, noise)
    assert share_predicted(capsys, "same.csv", labels) == pytest.approx(expected["accuracy"])


def test_names_that_do_not_say_which_column_is_meant_are_refused(capsys):
    x, noise, labels = two_classes()
    write_rows("t.csv", ["a", "b", "label"], x, noise, labels)
    trained_on(capsys, "t.csv")
    write_rows("other.csv", ["a", "b", "a", "label"], x, noise, x, labels)
    for arguments in (["predict", "run", "other.csv"], ["evaluate", "run", "--data", "other.csv"]):
        code, out, err = run(capsys, *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "has 2 columns called a, and the network was trained on 1" in err
    # A column of labels that is called like a feature is told apart by its place.
    write_rows("t.csv", ["a", "a", "b"], labels, x, noise)
    Path("run").rename("first")
    expected = trained_on(capsys, "t.csv", "--target", "0")
    code, _, err = run(capsys, "predict", "run", "t.csv")
    assert (code, "has 2 columns called a, and the network was trained on 1; --target names" in err) == (2, True)
    assert share_predicted(capsys, "t.csv", labels, "--target", "0") == pytest.approx(expected["accuracy"])


def test_a_header_of_numbers_that_the_network_knows_is_no_sample(capsys):
    x, noise, labels = two_classes()
    write_rows("t.csv", ["0", "1", "label"], x, noise, labels)
    expected = trained_on(capsys, "t.csv")
    write_rows("bare.csv", ["0", "1"], x, noise)
    assert share_predicted(capsys, "bare.csv", labels) == pytest.approx(expected["accuracy"])
    assert expected["accuracy"] > 0.95
    assert "its first line, of numbers, names the columns" in run(capsys, "predict", "run", "bare.csv")[2]
    write_rows("turned.csv", ["1", "0"], noise, x)
    assert share_predicted(capsys, "turned.csv", labels) == pytest.approx(expected["accuracy"])
    result, err = predicted(capsys, "run", "bare.csv", "--no-header")
    assert (len(result["predictions"]), err) == (81, "")
    # Labels without a name, so that the line is numbers alone.
    write_rows("turned.csv", ["1", "2", "0"], noise, labels, x)
    again = json.loads(
        run(capsys, "evaluate", "run", "--data", "turned.csv", "--target", "2", "--on", "all", "--json")[1]
    )
    assert again["samples"] == 80


def as_numbers(labels, called):
    """Return labels as an earlier version took them: as the classes themselves, up to the largest."""
    return labels, tuple(map(str, range(labels.max() + 1)))


def test_a_run_of_an_earlier_version_keeps_its_empty_class(capsys, monkeypatch):
    rng = np.random.default_rng(1)
    y = np.arange(90) % 3 + 1
    x = rng.standard_normal((90, 4)) + 2 * y[:, None]
    np.savez("t.npz", x=x, y=y, x_test=x, y_test=y)
    arguments = ["--data", "t.npz", "--epochs", "4", "--batch-size", "9", "--drop-last", "--hidden", "5"]
    with monkeypatch.context() as earlier:
        earlier.setattr("xpnet.data.arrays.classes_of_numbers", as_numbers)
        for out in ("run", "part"):
            assert run(capsys, "train", *arguments, "--out", out)[0] == 0
        expected = json.loads(run(capsys, "evaluate", "run", "--json")[1])
    net = xpnet.load("run")
    assert (net.config.classes, net.class_names) == (4, ("0", "1", "2", "3"))
    found = json.loads(run(capsys, "evaluate", "run", "--json")[1])
    assert found["confusion"] == expected["confusion"]
    assert found["accuracy"] == expected["accuracy"] > 0.6
    np.save("x.npy", x)
    assert share_predicted(capsys, "x.npy", list(map(str, y))) == expected["accuracy"]  # by the label
    # It goes on from where it was stopped, to the end that it would have had.
    for name in ("metrics.json", "model.safetensors", "checkpoints/0-1/step-000000036.json"):
        (Path("part") / name).unlink()
    code, _, err = run(capsys, "train", "--resume", "part")
    assert code == 0, err
    assert "are the classes" not in err
    assert Path("part/model.safetensors").read_bytes() == Path("run/model.safetensors").read_bytes()
    _, out, _ = run(capsys, "diagnose", "run", "--json", "--out", "diagnosis")
    assert json.loads(out)["repeats_run"]["identical"]
    # A new run from its settings has the classes that exist.
    code, _, err = run(capsys, "train", "--config", "run", "--out", "new")
    assert "t.npz: y: the labels 1, 2, 3 are the classes 0, 1, 2" in err
    assert xpnet.load("new").class_names == ("1", "2", "3")
    assert {p["class"] for p in predicted(capsys, "new", "x.npy")[0]["predictions"]} <= {"1", "2", "3"}


def test_images_of_more_than_8_bits_are_told(capsys, pictures):
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save("deep.png")
    result, err = predicted(capsys, "run", "deep.png", pictures[0])
    assert len(result["predictions"]) == 2
    assert "deep.png: has more than 8 bits a channel; of 16 bits the upper 8 are kept" in err
    Image.fromarray(np.full((6, 8), 70_000, np.int32)).save("far.tif")
    code, _, err = run(capsys, "predict", "run", "far.tif")
    assert (code, err) == (2, "xpnet: far.tif: left out (pixels from 70,000 to 70,000, beyond 16 bits)\n")


def test_a_value_that_is_too_far_for_the_network_is_one_sentence(capsys, pets):
    Path("far.csv").write_text("height,weight,age,tail\n1,2,3,4\n1,2,1e100,4\n")
    code, out, err = run(capsys, "predict", "run", "far.csv", "--quiet")
    assert (code, out) == (2, "")
    assert "far.csv: x: row 1, feature 2 (from 0): lies too far from the values that the network was trained on" in err
