"""``xpnet predict``, and ``xpnet evaluate`` on other data: sizes and names are brought together."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_train import run

import xpnet

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

import data_files


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
    probabilities = net.predict_proba(net.standardiser(x))[0, 0]
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
    wanted = net.predict_proba(net.standardiser(x.astype(np.float32))).mean(axis=0)
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
