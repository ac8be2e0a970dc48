"""Look for known vulnerabilities in what CI installs: exit code 1 if there is one.

Where no service can be asked this says so and exits with 0: that is no finding.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 180
# The services differ in what they reach: one that is not there gives way to the next.
SERVICES = ("pypi", "osv")


def verdict(report: dict[str, Any]) -> tuple[list[str], int]:
    """Return the findings in a report of pip-audit, a sentence each, and how many packages were looked up."""
    audited = [package for package in report["dependencies"] if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, mended in {', '.join(each['fix_versions']) or 'none'}"
        for package in audited
        for each in package["vulns"]
    ]
    return found, len(audited)


def ask(service: str, requirements: Path) -> tuple[list[str], int]:
    """Let pip-audit look up every package; see :func:`verdict`.

    Raises:
        RuntimeError: No answer came, with the reason.
    """
    command = ["pip-audit", "-r", str(requirements), "--require-hashes", "--disable-pip", "-s", service, "-f", "json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return verdict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer in {SECONDS} s") from None
    except OSError as error:
        raise RuntimeError(f"pip-audit: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise RuntimeError((done.stderr.strip().splitlines() or ["no report"])[-1]) from None


def main(requirements: Path) -> int:
    """Ask the services in turn until one knows the packages; print what it says and return the exit code."""
    for service in SERVICES:
        try:
            found, audited = ask(service, requirements)
        except RuntimeError as error:
            print(f"{service}: {error}")
            continue
        if audited:
            print(*found, f"{audited} packages looked up at {service}, {len(found)} known vulnerabilities", sep="\n")
            return 1 if found else 0
        print(f"{service}: knows none of the packages")
    print("no audit: no service could be asked from here")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).with_name("ci.txt")))
