"""Every format of docs/data.md has an example of three lines, and it runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import cifar_files
import data_files
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
# All but what shows how features are standardised, and how a network predicts.
EXAMPLES = [block for block in BLOCKS if "standardiser" not in block and "Network" not in block]


@pytest.fixture
def files() -> None:
    """Write what the page reads."""
    cifar_files.write_folder(Path("cifar-10-batches-py"))
    data_files.write_binary(Path("cifar-10-batches-bin"))
    data_files.write_matlab(Path("cifar-10-batches-mat"))
    data_files.write_cifar100(Path("cifar-100-python"), "python")
    data_files.write_idx(Path("MNIST/raw"), zipped=True)
    data_files.write_csv(Path("pets.csv"))
    data_files.write_columns(Path("people.csv"), data_files.people())
    data_files.write_images(Path("pictures"))
    x, y = np.arange(360.0).reshape(90, 4), np.arange(90) % 3
    np.savez("mine.npz", x=x, y=y)
    Path("pair").mkdir()
    np.save("pair/x.npy", x)
    np.save("pair/y.npy", y)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: re.findall(r"xpnet\.(\w+\(\S*)", block)[0])
def test_an_example_runs(example: str, files: None, capsys: pytest.CaptureFixture[str]):
    if ".parquet" in example:
        pytest.importorskip("pyarrow")
        data_files.write_parquet(Path("pets.parquet"))
    assert len([line for line in example.splitlines() if line]) == 3
    names: dict = {}
    exec(compile(example, str(PAGE), "exec"), names)
    assert len(names["data"].train) > 0
    assert ("print" in example) == bool(capsys.readouterr().out)


def test_every_format_has_one():
    read = " ".join(EXAMPLES)
    kinds = ("batches-py", "batches-bin", "batches-mat", "cifar-100", "MNIST", ".csv", ".parquet", ".npz", ".npy")
    assert all(kind in read for kind in (*kinds, "pictures", "data_from_arrays"))


@pytest.mark.thorough
def test_the_other_python_of_the_page_runs():
    names: dict = {}
    for block in BLOCKS:
        if block not in EXAMPLES:
            exec(compile(block, str(PAGE), "exec"), names)
    assert names["x"].shape == (2000, 3072)
    assert (names["probabilities"].shape, names["classes"].shape) == ((3, 200, 10), (3, 200))
    assert len(names["names"]) == 200
