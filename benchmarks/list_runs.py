"""Time of `aip runs` for many run folders, relative to `aip --version`, in whole processes.

Prints the median of several runs of each command, in turns, and the ratio.

    python benchmarks/list_runs.py [FOLDERS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from runs_on_disk import write_run

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]
COMMANDS = {"aip --version": ["--version"], "aip runs": ["runs"], "aip runs --json": ["runs", "--json"]}
REPEATS = 7
FILES = 40
"""Files of a run, about those of a run with two models."""


def main() -> None:
    """Print the table."""
    folders = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as place:
        for number in range(folders):
            run = write_run(Path(place) / f"runs/digits-{number}", train__batch_size=number)
            for extra in range(FILES):
                (run / f"export/{extra}").touch()
        for _ in range(REPEATS):
            for name, words in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run([*AIP, *words], cwd=place, check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - began)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{folders} run folders")
    for name, value in median.items():
        print(f"{name:<16} {value:6.3f} s  {value / median['aip --version']:5.1f}")


if __name__ == "__main__":
    main()
