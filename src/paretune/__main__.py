"""`python -m paretune` is the command line."""

from paretune.cli import main

raise SystemExit(main())
