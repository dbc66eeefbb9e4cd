"""`python -m aipcore`: the command `aip`, for debuggers and for environments without the installed script."""

import sys

from aipcore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
