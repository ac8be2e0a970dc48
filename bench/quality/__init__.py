"""Accuracy and log-loss of classifiers with their defaults, on data sets that packages ship.

python -m bench quality                        # all sets: ten repeats of five folds below 2,000 rows, else one: hours
python -m bench quality --repeats 1            # one repeat of five folds
python -m bench quality --sets iris,wine --classifiers XpnetClassifier,MLPClassifier
python -m bench quality --page                 # the tables of docs/estimator.md, from the newest result
python -m bench quality --page --check         # exit code 1 if they are not what this would write

Each classifier has a process of its own, and the file is written anew after each set; the same command goes on where
an earlier one ended, and one with more repeats adds to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.quality.classifiers import CLASSIFIERS
from bench.quality.sets import SETS
from bench.results import FOLDER, BenchError, read, write

SUITE = "quality"


def main(arguments: Sequence[str]) -> int:
    """Measure, or write the page; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.page or options.check:
        from bench.quality.page import write_page

        return write_page(options.root, options.results, check=options.check)
    from bench.machine import describe, probe, versions
    from bench.quality.measure import measure

    out = options.out or FOLDER / f"{time.strftime('%Y-%m-%d')}-quality.json"
    result = _begun(out, describe(), probe())
    begin = time.perf_counter()
    session = {"command": _command(options), "date": result["machine"]["date"]}
    result["sessions"].append(session)

    def keep() -> None:
        session["seconds"] = time.perf_counter() - begin
        write(out, result, replace=True)

    result["classifiers"] = versions(dict.fromkeys(one.package for one in CLASSIFIERS.values()))
    measure(result["suites"][SUITE], options, keep, lambda text: print(text, flush=True))
    print(f"written: {out}")
    return 0


def _begun(out: Path, machine: dict[str, Any], probe: dict[str, Any]) -> dict[str, Any]:
    """Return the result to go on with, that of an earlier command or a new one."""
    if not out.exists():
        suites = {SUITE: {"cases": {}}}
        return {"machine": machine, "probe_before": probe, "sessions": [], "suites": suites}
    result = read(out)
    if SUITE not in result["suites"]:
        raise BenchError(f"{out}: is a result of other suites; --out takes a new file, or one of this command")
    if (before := result["machine"].get("packages")) != machine["packages"]:
        raise BenchError(f"{out}: was measured with {before}, not with {machine['packages']}; --out takes a new file")
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=_among(SETS), default=list(SETS), metavar="NAME,...", help="[all]")
    parser.add_argument(
        "--classifiers", type=_among(CLASSIFIERS), default=list(CLASSIFIERS), metavar="NAME,...", help="[all]"
    )
    parser.add_argument("--repeats", type=_whole, default=10, help="of the five folds of small sets [10]")
    parser.add_argument("--folds", type=_whole, default=5, help="folds of each repeat that are held out in turn [5]")
    parser.add_argument("--small", type=_whole, default=2000, help="rows below which a set is repeated [2000]")
    parser.add_argument("--limit", type=_whole, default=600, help="most seconds of a fit; others are left out [600]")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="[bench/results/DATE-quality.json]")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/estimator.md")
    parser.add_argument("--check", action="store_true", help="with --page: change nothing")
    parser.add_argument("--results", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help=argparse.SUPPRESS)
    return parser


def _among(known: Any) -> Any:
    """Return a check for names, separated by commas; a comma within a name is followed by a space or a digit."""

    def names(text: str) -> list[str]:
        rest, found = text, []
        while rest:
            name = max((one for one in known if rest == one or rest.startswith(f"{one},")), key=len, default=None)
            if name is None:
                raise argparse.ArgumentTypeError(f"{rest}: must begin with one of {'; '.join(known)}")
            found.append(name)
            rest = rest[len(name) + 1 :]
        return found

    return names


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures the same again."""
    words, defaults = ["python -m bench quality"], _parser().parse_args([])
    for name, value in vars(options).items():
        if value != getattr(defaults, name) and name not in ("out", "results", "root"):
            words.append(f"--{name} '{','.join(value)}'" if isinstance(value, list) else f"--{name} {value}")
    return " ".join(words)
