"""`python -m harness <command>`."""

from harness.cli import main

if __name__ == "__main__":  # the processes of `measure` import this file too
    raise SystemExit(main())
