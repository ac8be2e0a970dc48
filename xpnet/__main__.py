"""Run the command line with ``python -m xpnet``."""

from xpnet.cli import main

if __name__ == "__main__":
    main()
