"""``docs/guarantees.md``: the promises of xpnet, and how tests have tried to break them.

pytest -n 2 --thorough --guarantees=record.json    # what a run of the tests did
python -m bench guarantees record.json             # keep the record and write the page
python -m bench guarantees --check                 # exit code 1 if the page is not what its record says
python -m bench guarantees --check record.json     # ... or if this run did not show what the page promises
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results import BenchError

ROOT = Path(__file__).parents[1]
PROMISES = Path("tests/guarantees.toml")
# Some harm depends on the moment: a process that was to be killed may have ended.
_LEAST = 0.5
RECORD, PAGE = Path("docs/guarantees.json"), Path("docs/guarantees.md")
_HEAD = """# Guarantees

What xpnet promises, how it keeps the promise, and the tests that try to break it. The numbers are those of
a run of the tests with `--thorough`, as CI makes it; by default the tests do less of the same.

    pytest -n 2 --thorough --guarantees=record.json && pytest -n 2 -m slow --thorough --guarantees=record.json
    python -m bench guarantees record.json         # writes this page
    python -m bench soak                           # trains, kills, resumes, corrupts and searches at random

| Promise | How it is kept | What was tried | Tests |
|:--|:--|:--|:--|
"""
Record = Mapping[str, Mapping[str, Mapping[str, Any]]]


def page(promises: Mapping[str, Mapping[str, str]], record: Record, soak: Mapping[str, Any] | None = None) -> str:
    """Return the page of promises, with what a record says was tried, and what the last soak survived."""
    lines = []
    for name, promise in promises.items():
        tests = record.get(name, {})
        files = sorted({test.split("::")[0] for test in tests})
        where = "<br>".join(f"[{file.removeprefix('tests/')}](../{file})" for file in files)
        lines.append(f"| {promise['title']} | {promise['kept']} | {_tried(tests)} | {where} |")
    return _HEAD + "\n".join(lines) + "\n" + ("" if soak is None else _survived(soak))


def _survived(result: Mapping[str, Any]) -> str:
    """Return the section of the page about a soak."""
    soak, machine = result["soak"], result["machine"]
    done = [f"- {what}: {times:,}" for what, times in soak["counts"].items()]
    head = f"`{result['command']}` ({soak['seconds']:.0f} s, {machine['date']}) survived:"
    return "\n".join(["", "## At random", "", head, "", *done, ""])


def last_soak() -> dict[str, Any] | None:
    """Return the newest result of a soak; None if there is none."""
    found = sorted((ROOT / "bench" / "results").glob("*-soak.json"))
    return _read(found[-1]) if found else None


def _tried(tests: Mapping[str, Mapping[str, Any]]) -> str:
    cases = sum(entry["passed"] for entry in tests.values())
    counted = f"{cases:,} test{'' if cases == 1 else 's'}"
    return "<br>".join([counted, *(f"{what}: {times:,}" for what, times in sorted(_harm(tests).items()))])


def _harm(tests: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for entry in tests.values():
        total.update(entry["harm"])
    return total


def problems(promises: Mapping[str, Any], kept: Record, seen: Record) -> list[str]:
    """Return the promises and recorded tests that a run of the tests does not confirm."""
    found = [f"{name}: is tested, but is no promise of {PROMISES}" for name in sorted(seen.keys() - promises.keys())]
    for name in promises:
        tests = seen.get(name, {})
        if not any(entry["passed"] for entry in tests.values()):
            found.append(f"{name}: no test has passed that puts it to the test")
        found += [f"{name}: {test} failed" for test, entry in tests.items() if entry["failed"]]
        found += [f"{name}: {test} was not run" for test in sorted(kept.get(name, {}).keys() - tests.keys())]
        for test, entry in kept.get(name, {}).items():
            seen_here = tests.get(test, {"skipped": 1, "harm": {}})
            for what, times in entry["harm"].items():
                if seen_here["harm"].get(what, 0) < _LEAST * times and not seen_here["skipped"]:
                    done = seen_here["harm"].get(what, 0)
                    found.append(f"{name}: {test}: {done:,} {what}, where the page counts {times:,}")
    return found


def main(given: Sequence[str]) -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench guarantees", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("record", nargs="?", type=Path, help="what pytest --guarantees wrote")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if something is not as promised"
    )
    options = parser.parse_args(given)
    promises = tomllib.loads((ROOT / PROMISES).read_text())
    kept = _read(ROOT / RECORD) if options.check or options.record is None else {}
    seen = kept if options.record is None else _read(options.record)
    wrong = problems(promises, kept if options.check else {}, seen)
    if options.check:
        if (ROOT / PAGE).read_text() != page(promises, kept, last_soak()):
            wrong.append(f"{PAGE}: is not what {RECORD} says; write it with: python -m bench guarantees")
    elif not wrong:
        (ROOT / RECORD).write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
        (ROOT / PAGE).write_text(page(promises, seen, last_soak()))
        print(f"wrote {PAGE}: {len(promises)} promises")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BenchError(f"{path}: cannot be read ({error})") from None
