"""``python -m triportrait.cli``: the command line."""

from triportrait.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
