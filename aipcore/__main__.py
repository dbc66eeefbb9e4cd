"""`python -m aipcore`: the command `aip`, for debuggers and for where no script is installed."""

import sys

from aipcore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
