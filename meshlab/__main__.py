"""The command ``meshlab``, also as ``python -m meshlab``, and ``mesh-checkpoint``."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C while it is still loading ends it without a word."""
    try:
        from meshlab.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()


def run_checkpoint() -> None:
    """``mesh-checkpoint UID``, the name of phase 1 for ``meshlab checkpoint UID``."""
    sys.argv[1:1] = ["checkpoint"]
    run()


if __name__ == "__main__":
    run()
