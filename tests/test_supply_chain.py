"""What CI installs is named with hashes, satisfies what the project asks for, and is looked up for vulnerabilities."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from xpnet.utils.extras import EXTRAS

pytestmark = pytest.mark.guarantee("supply-chain")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CI = ROOT / "requirements" / "ci.txt"
_PIN = re.compile(
    r"(?P<name>[a-z0-9._-]+)==(?P<version>[^\s;\\]+)( ; (?P<marker>[^\\\n]+?))? \\\n(?P<hashes>( +--hash=\S+( \\)?\n)+)"
)


def pins() -> dict[str, list[re.Match[str]]]:
    """Return what is named in the file, by name; a package may have several versions, for several Pythons."""
    found: dict[str, list[re.Match[str]]] = {}
    text = "".join(line for line in CI.read_text().splitlines(keepends=True) if not line.lstrip().startswith("#"))
    assert _PIN.sub("", text) == ""  # and nothing else stands there
    for pin in _PIN.finditer(text):
        found.setdefault(canonicalize_name(pin["name"]), []).append(pin)
    return found


def asked_for() -> list[Requirement]:
    """Return what the project, its tests, its build and CI ask for."""
    lines = (ROOT / "requirements" / "ci.in").read_text().splitlines()
    return [
        *map(Requirement, PROJECT["project"]["dependencies"]),
        *of_extra("test"),
        *map(Requirement, PROJECT["build-system"]["requires"]),
        *(Requirement(line) for line in lines if line and not line.startswith("#")),
    ]


def of_extra(name: str) -> list[Requirement]:
    """Return what an extra of the project asks for, that of the extras it names included."""
    found = []
    for wanted in map(Requirement, PROJECT["project"]["optional-dependencies"][name]):
        of_itself = wanted.name == PROJECT["project"]["name"]
        found += [one for extra in sorted(wanted.extras) for one in of_extra(extra)] if of_itself else [wanted]
    return found


def test_default_install_is_what_training_needs():
    names = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    assert names == {
        "numpy",
        "scipy",
        "tqdm",
        "rich",
        "cyclopts",
        "safetensors",
        "platformdirs",
        "threadpoolctl",
        "tomli-w",
    }


def test_extras_bring_what_xpnet_says_they_do():
    asked = PROJECT["project"]["optional-dependencies"]
    for name, extra in EXTRAS.items():
        assert {Requirement(text).name for text in asked[name]} == set(extra.packages.values()), name
    together = {name for name in EXTRAS if not name.startswith("cuda")}
    assert Requirement(*asked["all"]).extras == together
    assert "xpnet[all]" in asked["test"]


def test_every_package_has_hashes_and_no_address():
    for several in pins().values():
        for pin in several:
            hashes = re.findall(r"--hash=(\S+)", pin["hashes"])
            assert hashes
            assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), pin["name"]
    for path in CI.parent.iterdir():
        if path.suffix in (".txt", ".in"):
            text = path.read_text().replace("--no-emit-index-url", "").replace("--no-emit-find-links", "")
            assert not re.search(r"://|--\S*index|--find-links|--trusted-host|file:| @ ", text), path


def test_what_is_named_is_what_the_project_asks_for():
    named = pins()
    for wanted in asked_for():
        for pin in named[canonicalize_name(wanted.name)]:
            assert wanted.specifier.contains(Version(pin["version"])), f"{wanted}: {pin['version']}"


def test_what_is_named_covers_what_that_needs_in_turn():
    named, seen = pins(), set()
    left = [(canonicalize_name(wanted.name), frozenset(wanted.extras)) for wanted in asked_for()]
    while left:
        name, extras = left.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in named, name
        for text in needs_in_turn(name, {pin["version"] for pin in named[name]}):
            needed = Requirement(text)
            environments = [{"extra": extra} for extra in extras or ("",)]
            if needed.marker is None or any(needed.marker.evaluate(one) for one in environments):
                left.append((canonicalize_name(needed.name), frozenset(needed.extras)))


def needs_in_turn(name: str, versions: set[str]) -> list[str]:
    """Return what a package asks for, where one of these versions is installed, as it is in CI."""
    try:
        there = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    return there.requires or [] if there.version in versions else []


def test_ci_installs_nothing_else():
    script = (ROOT / ".ci" / "run").read_text() if (ROOT / ".ci").is_dir() else ""
    if not script:
        pytest.skip("needs the repository, not a source distribution")
    installs = re.findall(r"^ *((?:python\S* -m )?pip3? install .*)$", script, re.MULTILINE)
    assert installs == [
        "pip install --quiet --require-hashes -r requirements/ci.txt",
        "pip install --quiet --no-deps --no-build-isolation .",
        'pip install --quiet --require-hashes -r requirements/torch.txt || echo "is not here: its tests are skipped"',
        'pip install --quiet --no-deps --require-hashes -r requirements/axe.txt || echo "is not here: tests skipped"',
    ]
    assert re.search("^python requirements/audit.py$", script, re.MULTILINE)


def test_a_source_distribution_holds_them():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"/SECURITY.md", "/requirements"} <= set(included)
    assert all((ROOT / name.lstrip("/")).exists() for name in included)


def report(*vulnerabilities: str) -> dict:
    found = [{"id": one, "fix_versions": ["1.1"]} for one in vulnerabilities]
    skipped = {"name": "xpnet", "skip_reason": "not found"}
    return {"dependencies": [skipped, {"name": "numpy", "version": "1.0", "vulns": found}]}


@pytest.mark.skipif(os.name != "posix", reason="needs a script that is a program")
@pytest.mark.parametrize(
    ("pypi", "osv", "code", "said"),
    [
        (report(), "", 0, ["1 packages looked up at pypi, 0 known vulnerabilities"]),
        (
            report("CVE-1", "CVE-2"),
            "",
            1,
            [
                "numpy 1.0: CVE-1, mended in 1.1",
                "numpy 1.0: CVE-2, mended in 1.1",
                "1 packages looked up at pypi, 2 kn",
            ],
        ),
        (
            {"dependencies": report()["dependencies"][:1]},
            report("CVE-3"),
            1,
            ["pypi: knows none of the p", "numpy 1.0: C"],
        ),
        (
            "no route",
            "no route",
            0,
            ["pypi: no route", "osv: no route", "no audit: no service could be asked from here"],
        ),
        ("no route", report(), 0, ["pypi: no route", "1 packages looked up at osv, 0 known vulnerabilities"]),
        ("sleep", report(), 0, ["pypi: no answer in 1 s", "1 packages looked up at osv"]),
        ({"dependencies": [{}]}, {"else": 1}, 0, ["pypi: knows none", "osv: no report", "no audit"]),
    ],
)
def test_the_audit_fails_on_a_finding_and_on_nothing_else(tmp_path, pypi, osv, code, said):
    program = tmp_path / "pip-audit"
    answers = {"pypi": pypi, "osv": osv}
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, sys, time\n"
        f"answer = {answers!r}[sys.argv[sys.argv.index('-s') + 1]]\n"
        "assert '--require-hashes' in sys.argv and '--disable-pip' in sys.argv\n"
        "if answer == 'sleep':\n    time.sleep(30)\n"
        "print(json.dumps(answer)) if isinstance(answer, dict) else print(answer, file=sys.stderr)\n"
        "sys.exit(1)\n"
    )
    program.chmod(0o755)
    audit = ROOT / "requirements" / "audit.py"
    run = f"import runpy, sys; names = runpy.run_path({str(audit)!r}); names['ask'].__globals__['SECONDS'] = 1; "
    done = subprocess.run(
        [sys.executable, "-c", run + "from pathlib import Path; sys.exit(names['main'](Path('ci.txt')))"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=False)), lines


def test_where_there_is_no_pip_audit_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "requirements" / "audit.py")],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "pypi: pip-audit: No such file or directory")
