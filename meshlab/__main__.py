"""The command ``meshlab``, also as ``python -m meshlab``."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C while it is still loading ends it without a word."""
    try:
        from meshlab.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()


if __name__ == "__main__":
    run()
