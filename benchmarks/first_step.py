"""Time from `aip train tutorial` to the end of its first epoch, compared with importing TensorFlow, in whole processes.

The first update comes almost an epoch earlier, so the difference is an upper bound on the time that aip adds.

    python benchmarks/first_step.py [RUNS]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import machine

LIMIT = 2.0
"""Seconds after TensorFlow's own import."""

AIP = [sys.executable, "-c", "from aipcore.cli.main import main; main()", "train", "tutorial"]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def importing() -> float:
    """Return the seconds of a process that imports TensorFlow and Keras, as a run must."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tensorflow, keras"], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def training(folder: Path) -> float:
    """Return the seconds from the start of the command to the line of its first epoch."""
    words = ["--trainer.epochs", "1", "--trainer.output_dir", str(folder)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*AIP, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            seconds = time.perf_counter() - begun
            process.communicate()
            return seconds
    sys.exit("aip train did not reach the end of its first epoch")


def main() -> None:
    """Measure in turns and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(machine("tensorflow", "keras"))
    alone, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs + 1):
            alone.append(importing())
            whole.append(training(Path(folder, str(number))))
    # The first run of each fills the system's caches.
    alone, whole = alone[1:], whole[1:]
    added = statistics.median(b - a for a, b in zip(alone, whole, strict=True))
    print(f"import tensorflow, keras              {statistics.median(alone):6.2f} s")
    print(f"aip train tutorial, to the first epoch {statistics.median(whole):5.2f} s")
    print(f"{'met' if added <= LIMIT else 'NOT met'}: {added:.2f} s after TensorFlow's import (limit {LIMIT:g} s)")


if __name__ == "__main__":
    main()
