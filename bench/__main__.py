"""Run a benchmark: ``python -m bench step``."""

from __future__ import annotations

import importlib
import sys

SUITES = {
    "step": "training steps of xpnet and of PyTorch eager, in turn",
    "gradcheck": "the gradient check of whole networks, fast and naive",
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SUITES:
        print("usage: python -m bench SUITE [OPTIONS]; SUITE --help shows its options\n")
        for name, text in SUITES.items():
            print(f"  {name:10} {text}")
        sys.exit(0 if sys.argv[1:] in ([], ["--help"]) else 2)
    importlib.import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:])
