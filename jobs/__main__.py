"""`python -m jobs`: the `cemiface` command."""

from __future__ import annotations

from jobs.command.main import main

if __name__ == "__main__":
    main()
