"""Imports point down, and importing xpnet is cheap."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet

_spec = importlib.util.spec_from_file_location("floors", Path(__file__).parents[1] / "docs" / "floors.py")
floors = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(floors)
FLOORS, MODULES, imports_of, floor_of = floors.floors(), floors.MODULES, floors.imports_of, floors.part_of
PACKAGE, tree_of = floors.PACKAGE, floors.tree_of
HEIGHT = {name: -floor for floor, (names, _) in enumerate(FLOORS) for name in names}


def test_imports_point_down():
    upward = [
        f"{module} imports {other}"
        for module in MODULES.keys() - {"xpnet"}
        for other in imports_of(MODULES[module])
        if floor_of(other) != floor_of(module) and HEIGHT[floor_of(other)] >= HEIGHT[floor_of(module)]
        # The command line stands on one floor with the module that starts it.
        if floor_of(module) != "__main__" or HEIGHT[floor_of(other)] > HEIGHT[floor_of(module)]
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    imports = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    while leaves := [module for module, others in imports.items() if not others & imports.keys()]:
        for module in leaves:
            del imports[module]
    assert not imports.keys() - {"xpnet"}, "these are in a circle, or import from one"


def test_every_part_stands_on_a_floor():
    parts = {floor_of(module) for module in MODULES.keys() - {"xpnet"}}
    assert parts == HEIGHT.keys()


def test_the_picture_of_the_floors_is_that_of_the_imports():
    assert floors.PICTURE.read_text() == floors.picture(), "make it anew: python docs/floors.py"


@pytest.mark.parametrize(("names", "purpose"), FLOORS, ids=[", ".join(names) for names, _ in FLOORS])
def test_a_folder_begins_with_the_purpose_of_its_floor(names: list[str], purpose: str):
    for name in names:
        if (PACKAGE / name).is_dir():
            text = ast.get_docstring(tree_of(PACKAGE / name / "__init__.py"))
            assert text is not None
            assert text.splitlines()[0] == purpose.replace("`", "``")


def test_cupy_is_known_to_backend_and_ops_alone():
    users = []
    for path in MODULES.values():
        part = path.relative_to(PACKAGE).parts[0]
        nodes = [] if part in ("backend.py", "ops") or path.parent.name == "steppers" else ast.walk(tree_of(path))
        for node in nodes:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users += [str(path) for name in names if name.split(".")[0] == "cupy"]
    assert users == []


TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"
GIVEN = f"os.environ['{TIMEOUT}'] = '26'"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_xpnet_imports_nothing_heavy():
    code = (
        "import sys, xpnet; "
        "print([m for m in ('cupy', 'altair', 'numpy', 'scipy', 'rich', 'tqdm', 'vl_convert') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize(("before", "expected"), [("", "20"), ("import numpy; ", "None"), (f"{GIVEN}; ", "26")])
def test_idle_threads_of_blas_sleep_soon_unless_the_user_says_otherwise(before: str, expected: str):
    code = f"import os; os.environ.pop('{TIMEOUT}', None); {before}import xpnet; print(os.environ.get('{TIMEOUT}'))"
    assert run_python(code) == expected


def test_using_xpnet_on_the_cpu_imports_neither_cupy_nor_altair():
    # Numba loads SciPy's BLAS for its own np.dot; nothing here computes with it.
    code = (
        "import os, sys; os.environ['XPNET_FAST'] = '0'; import xpnet; xpnet.get_backend('cpu'); "
        "net = xpnet.Network(xpnet.NetworkConfig(inputs=3072)); "
        "r = xpnet.train(net, xpnet.load_data('patterns:100/20'), xpnet.TrainConfig(epochs=1, batch_size=30)); "
        "print([m for m in ('cupy', 'altair', 'numba', 'scipy', 'vl_convert', 'PIL') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from xpnet.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('cupy', 'altair', 'numpy', 'scipy') if m in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "[]"


# Runs a command, and prints the packages that it imports after its first step, and what it imports of those that load
# libraries: in the middle of a training memory may be short, and a library that is loaded hears no signal.
IMPORTED_LATE = """
import sys
from xpnet.cli import main
from xpnet.report import render
from xpnet.training.steppers import feature_parallel, plain
render.converted = lambda *_, **__: b""
known = set()
def watched(run):
    def first(self, *given):
        run(self, *given)
        known.update(sys.modules)
    return first
from xpnet.training.steppers import CompiledStepper, FeatureParallelStepper, PlainStepper
for stepper in (PlainStepper, FeatureParallelStepper, CompiledStepper):
    stepper.run = watched(stepper.run)
for arguments in sys.argv[1].split(";"):
    known.clear()
    main(arguments.split())
    assert known
    late = set(sys.modules) - known
    packages = {name.split(".")[0] for name in known}
    heavy = ("scipy", "numba", "llvmlite", "altair", "vl_convert", "safetensors")
    print(sorted({n for n in late if n.split(".")[0] in heavy or n.split(".")[0] not in packages}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "commands",
    [
        "train DATA --epochs 1 --out r;train --resume r --epochs 2 --allow-changes",
        "lr-range DATA --steps 20;diagnose DATA --epochs 1",
    ],
    ids=["train and resume", "lr-range and diagnose"],
)
def test_nothing_heavy_is_imported_once_training_has_begun(commands):
    commands = commands.replace("DATA", "--data patterns:60/20 --batch-size 10 --hidden 2")
    done = subprocess.run([sys.executable, "-c", IMPORTED_LATE, commands], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]


def test_every_public_name_exists():
    for name in xpnet.__all__:
        assert getattr(xpnet, name) is not None
    shown = {name for name in dir(xpnet) if not name.startswith("__")}
    assert shown == {*xpnet.__all__, "sklearn", "testing"}
    with pytest.raises(AttributeError):
        _ = xpnet.nothing
