"""``xpnet predict``, and ``xpnet evaluate`` on tables: columns, classes and sizes are those of the network."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import data_files
import numpy as np
import pytest
from PIL import Image

import xpnet
from xpnet.cli.console import safe


def predicted(command, *arguments: str) -> list[dict]:
    """Return what is predicted for each input."""
    return command.json("predict", *arguments)["predictions"]


def test_predict_names_the_classes_of_images(command, pictures):
    result = command.json("predict", "run", *pictures)
    assert [p["class"] for p in result["predictions"]] == ["red", "blue"]
    assert [p["input"] for p in result["predictions"]] == pictures
    net = xpnet.load("run")
    x = np.asarray(Image.open(pictures[0])).transpose(2, 0, 1).reshape(1, -1)
    probabilities = result["predictions"][0]["probabilities"]
    assert list(probabilities.values()) == pytest.approx(net.predict_proba(x)[0, 0].tolist())
    assert sum(probabilities.values()) == pytest.approx(1)
    assert (net.image_shape, result["classes"]) == ((3, 6, 8), ["blue", "red"])
    assert command("predict", "run", *pictures).err == ""


def test_predict_says_that_it_resized_images(command, pictures):
    Image.new("RGBA", (640, 480), (200, 20, 10, 255)).save("large.png")
    Image.new("L", (30, 40), 90).save("gray.jpg")
    Path("broken.png").write_text("x")
    done = command("predict", "run", "large.png", "gray.jpg", "broken.png", pictures[1])
    assert "brought 2 of 3 images from 2 sizes to the network's 6x8" in done.err
    assert "broken.png: left out (no image)" in done.err
    assert "red" in next(line for line in done.out.splitlines() if "large.png" in line)
    assert command.refused("predict", "run", "broken.png") == "broken.png: left out (no image)"
    result = command.json("predict", "run", "pictures/red", "large.png")
    assert "brought 1 of 31 images from 480x640 to the network's 6x8" in result["notes"]
    assert len(result["predictions"]) == 31


def test_predict_takes_arrays_of_images(command, pictures):
    images = np.stack([np.asarray(Image.open(path)) for path in pictures])
    np.savez("m.npz", x=images)
    probabilities = ([p["probabilities"] for p in predicted(command, "run", *given)] for given in (pictures, ["m.npz"]))
    assert next(probabilities) == next(probabilities)
    np.save("large.npy", images.repeat(4, axis=1).repeat(4, axis=2))
    result = command.json("predict", "run", "large.npy")
    assert [p["class"] for p in result["predictions"]] == ["red", "blue"]
    assert "brought 2 images from 24x32 in 3 channels to the network's 6x8 in 3" in result["notes"]
    np.savez("two.npz", a=images, b=images)
    sentence = command.refused("predict", "run", "two.npz")
    assert "has the arrays a, b; the features must be called x" in sentence


def test_predict_takes_columns_by_name(command, pets):
    done = command("predict", "run", pets)
    assert "left out 1 of 5 columns, which the network does not know" in done.err
    assert "mean probabilities of the 3 networks of run" in done.err
    result = predicted(command, "run", pets)
    names, x, labels = data_files.table(150)
    found = np.array([list(p["probabilities"].values()) for p in result])
    np.testing.assert_allclose(found, xpnet.load("run").predict_proba(x).mean(axis=0), atol=1e-6)
    assert np.mean([p["class"] == label for p, label in zip(result, labels, strict=True)]) > 0.8
    # The same columns in another order, and no labels.
    write_rows("turned.csv", names[::-1], *x.T[::-1])
    assert predicted(command, "run", "turned.csv") == result
    write_rows("bare.csv", [], *x.T)
    assert len(predicted(command, "run", "bare.csv")) == 150


def test_predict_csv_is_for_programs(command, pets):
    result = predicted(command, "run", pets)
    rows = list(csv.DictReader(io.StringIO(command("predict", "run", pets, "--csv").out)))
    assert list(rows[0]) == ["input", "class", "probability", "p(cat)", "p(dog)", "p(emu)"]
    assert [row["class"] for row in rows] == [p["class"] for p in result]
    assert float(rows[3]["p(dog)"]) == pytest.approx(result[3]["probabilities"]["dog"], rel=1e-5)
    command.refused("predict", "run", pets, "--csv", "--json")


def test_predict_table_has_the_likeliest_of_many_classes(command):
    data_files.write_cifar100(Path("c"), "binary")
    command("train", "--data", "c", "--epochs", "1", "--batch-size", "4", "--hidden", "3", "--out", "run")
    np.savez("m.npz", x=data_files.cifar100(0)["data"])
    out = command("predict", "run", "m.npz").out
    assert out.count("then") == 2
    assert len([line for line in out.splitlines() if " % " in line]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "nothing.png: there is no such file"),
        (["short.csv"], "short.csv: has no column tail, which the network was trained on"),
        (["wide.csv"], "wide.csv: has 5 features, and the network takes 4; --target names a column of labels"),
        (["missing.csv"], "missing.csv: line 2, column 1 (weight): the value is missing"),
        (
            ["far.csv", "--quiet"],
            "far.csv: x: row 1, feature 2 (from 0): lies too far from the values that the network",
        ),
        (["pets.csv", "short.csv"], "pets.csv: a table is predicted by itself"),
        (["image.png"], "the network was trained on the columns height, weight, age, tail"),
        (["m.npz", "--target", "x"], "is an array, whose columns have no names"),
        (["empty"], "the network was trained on the columns"),
    ],
)
def test_predict_mistakes_get_one_sentence(command, pets, arguments, message):
    Path("short.csv").write_text("height,weight,age\n1,2,3\n4,5,6\n")
    Path("wide.csv").write_text("1,2,3,4,5\n1,2,3,4,5\n")
    Path("missing.csv").write_text("height,weight,age,tail\n1,,3,4\n")
    Path("far.csv").write_text("height,weight,age,tail\n1,2,3,4\n1,2,1e100,4\n")
    Image.new("L", (3, 3)).save("image.png")
    np.savez("m.npz", x=np.ones((2, 4)))
    Path("empty").mkdir()
    assert message in command.refused("predict", "run", *arguments)


def test_safe_cuts_a_long_label():
    assert len(safe("a" * 200_000)) < 220
    assert str(safe("cat")) == "cat"


def test_predict_leaves_the_target_out(command, pets):
    Path("wide.csv").write_text("1,2,3,4,cat\n1,2,3,4,dog\n")
    assert len(predicted(command, "run", "wide.csv", "--target", "4")) == 2


def test_predict_warns_of_images_of_more_than_8_bits(command, pictures):
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save("deep.png")
    result = command.json("predict", "run", "deep.png", pictures[0])
    assert len(result["predictions"]) == 2
    assert any("deep.png: has more than 8 bits a channel; of 16 bits the upper 8" in note for note in result["notes"])
    Image.fromarray(np.full((6, 8), 70_000, np.int32)).save("far.tif")
    sentence = command.refused("predict", "run", "far.tif")
    assert sentence == "far.tif: left out (pixels from 70,000 to 70,000, beyond 16 bits)"


def train_on(command, path: str, *more: str) -> dict:
    """Train on a table, and return what evaluating all of it gives."""
    arguments = ["--epochs", "6", "--batch-size", "8", "--hidden", "8", "--drop-last", "--out", "run", *more]
    command("train", "--data", path, *arguments)
    return command.json("evaluate", "run", "--on", "all")


def share_predicted(command, path: str, labels: list[str], *more: str) -> float:
    """Return the share of a table's rows that are predicted as `labels` say."""
    predictions = predicted(command, "run", path, *more)
    return float(np.mean([p["class"] == label for p, label in zip(predictions, labels, strict=True)]))


def write_rows(path: str, header: list[str], *columns) -> None:
    with Path(path).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([header] if header else [])
        rows.writerows(zip(*columns, strict=True))


@pytest.fixture
def columns() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return two features, of which the first alone tells two classes apart, and the labels."""
    rng, c = np.random.default_rng(2), np.arange(80) % 2
    x, noise = np.round(rng.normal(8.0 * c - 4, 1), 3), np.round(rng.normal(0, 1, 80), 3)
    return x, noise, ["no" if i else "yes" for i in c]


@pytest.mark.parametrize("names", [["a", "a"], ["a", " a "], ["", " "]])
def test_predict_takes_columns_of_equal_names_one_after_the_other(command, columns, names):
    x, noise, labels = columns
    write_rows("t.csv", [*names, "label"], x, noise, labels)
    expected = train_on(command, "t.csv")
    assert share_predicted(command, "t.csv", labels) == pytest.approx(expected["accuracy"])
    assert expected["accuracy"] > 0.95
    write_rows("other.csv", [names[0], "label", names[1], "more"], x, labels, noise, noise)
    assert share_predicted(command, "other.csv", labels) == pytest.approx(expected["accuracy"])
    again = command.json("evaluate", "run", "--data", "other.csv", "--on", "all")
    assert again["confusion"] == expected["confusion"]


@pytest.mark.slow
def test_predict_takes_parquet_columns_of_equal_names(command, columns):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x, noise, labels = columns
    pq.write_table(pa.Table.from_arrays([x, noise, labels], names=["a", "a", "label"]), "t.parquet")
    expected = train_on(command, "t.parquet")
    assert share_predicted(command, "t.parquet", labels) == pytest.approx(expected["accuracy"])
    assert expected["accuracy"] > 0.95
    write_rows("same.csv", ["a ", "a"], x, noise)
    assert share_predicted(command, "same.csv", labels) == pytest.approx(expected["accuracy"])


def test_predict_refuses_names_that_more_columns_have_than_in_training(command, columns):
    x, noise, labels = columns
    write_rows("t.csv", ["a", "b", "label"], x, noise, labels)
    train_on(command, "t.csv")
    write_rows("other.csv", ["a", "b", "a", "label"], x, noise, x, labels)
    for arguments in (["predict", "run", "other.csv"], ["evaluate", "run", "--data", "other.csv"]):
        assert "has 2 columns called a, and the network was trained on 1" in command.refused(*arguments)
    # A column of labels that is called like a feature is told apart by its place.
    write_rows("t.csv", ["a", "a", "b"], labels, x, noise)
    Path("run").rename("first")
    expected = train_on(command, "t.csv", "--target", "0")
    sentence = command.refused("predict", "run", "t.csv")
    assert "has 2 columns called a, and the network was trained on 1; --target names" in sentence
    assert share_predicted(command, "t.csv", labels, "--target", "0") == pytest.approx(expected["accuracy"])


def test_predict_takes_a_header_of_numbers_that_the_network_knows(command, columns):
    x, noise, labels = columns
    write_rows("t.csv", ["0", "1", "label"], x, noise, labels)
    expected = train_on(command, "t.csv")
    assert expected["accuracy"] > 0.95
    write_rows("bare.csv", ["0", "1"], x, noise)
    write_rows("turned.csv", ["1", "0"], noise, x)
    for path in ("bare.csv", "turned.csv"):
        assert share_predicted(command, path, labels) == pytest.approx(expected["accuracy"])
    assert "its first line, of numbers, names the columns" in command("predict", "run", "bare.csv").err
    result = command.json("predict", "run", "bare.csv", "--no-header")
    assert (len(result["predictions"]), result["notes"]) == (81, [])
    # Labels without a name, so that the line is numbers alone.
    write_rows("turned.csv", ["1", "2", "0"], noise, labels, x)
    again = command.json("evaluate", "run", "--data", "turned.csv", "--target", "2", "--on", "all")
    assert again["samples"] == 80


def as_numbers(labels, called):
    """Return labels as an earlier version took them: as the classes themselves, up to the largest."""
    return labels, tuple(map(str, range(labels.max() + 1)))


def test_run_of_an_earlier_version_keeps_its_empty_class(command, monkeypatch):
    y = np.arange(90) % 3 + 1
    x = np.random.default_rng(1).standard_normal((90, 4)) + 2 * y[:, None]
    np.savez("t.npz", x=x, y=y, x_test=x, y_test=y)
    arguments = ["--data", "t.npz", "--epochs", "4", "--batch-size", "9", "--drop-last", "--hidden", "5"]
    with monkeypatch.context() as earlier:
        earlier.setattr("xpnet.data.arrays.classes_of_numbers", as_numbers)
        for out in ("run", "part"):
            command("train", *arguments, "--out", out)
        expected = command.json("evaluate", "run")
    net = xpnet.load("run")
    assert (net.config.classes, net.class_names) == (4, ("0", "1", "2", "3"))
    found = command.json("evaluate", "run")
    assert found["confusion"] == expected["confusion"]
    assert found["accuracy"] == expected["accuracy"] > 0.6
    np.save("x.npy", x)
    assert share_predicted(command, "x.npy", list(map(str, y))) == expected["accuracy"]  # by the label
    # It goes on from where it was stopped, to the end that it would have had.
    for name in ("metrics.json", "model.safetensors", "checkpoints/0-1/step-000000036.json"):
        (Path("part") / name).unlink()
    assert "are the classes" not in command("train", "--resume", "part").err
    assert Path("part/model.safetensors").read_bytes() == Path("run/model.safetensors").read_bytes()
    assert command.json("diagnose", "run", "--out", "diagnosis")["repeats_run"]["identical"]
    # A new run from its settings has the classes that exist.
    err = command("train", "--config", "run", "--out", "new").err
    assert "t.npz: y: the labels 1, 2, 3 are the classes 0, 1, 2" in err
    assert xpnet.load("new").class_names == ("1", "2", "3")
    assert {p["class"] for p in predicted(command, "new", "x.npy")} <= {"1", "2", "3"}
