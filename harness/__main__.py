"""`python -m harness <command>`."""

from harness.cli import main

raise SystemExit(main())
