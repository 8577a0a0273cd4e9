"""``python -m meshlab``: the command line."""

from meshlab.cli import main

if __name__ == "__main__":
    main()
