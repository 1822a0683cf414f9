"""The stages and the `cemiface` command. May import every other package; nothing imports this one."""

import os
import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which `python -m jobs` puts first; gone before anything is imported from it
if sys.argv[:1] == ["-m"] or os.path.basename(sys.argv[0] if sys.argv else "") == "cemiface":
    # Found without the path, beside this file. Only for the command: a program that imports us keeps its path.
    from jobs.safe_start import make_safe

    make_safe()

SUITE = "CemiFace batch suite"  # the project's name, as a page is headed
VERSION = "0.1.0"  # as setup.py has it; the marks of synthetic pictures name it
