"""`python -m trencadis` is the `trencadis` command."""

from trencadis.cli import main

raise SystemExit(main())
