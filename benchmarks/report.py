"""Runs all benchmarks, one after the other, and writes what they print to docs/benchmarks.md.

Run it on a machine that does nothing else. Peers that are not installed are left out with a note; `pip install
'aipcore[bench]' torch lightning` brings them.

    python benchmarks/report.py [--only NAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
from peers import machine

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"


@attrs.frozen
class Benchmark:
    """A script, what it is about, and its words for a whole and for a quick run."""

    script: str
    title: str
    about: str
    words: Sequence[str] = ()
    quick: Sequence[str] = ()

    @property
    def key(self) -> str:
        """What distinguishes it."""
        return " ".join([self.script, *self.words])


BENCHMARKS = (
    Benchmark(
        "startup",
        "Starting up",
        "Whole processes, against importing the libraries that the command line is made of.",
        quick=("3",),
    ),
    Benchmark(
        "first_step",
        "The first step",
        "From `aip train tutorial` to the end of its first epoch, against importing TensorFlow and Keras alone.",
        quick=("1",),
    ),
    Benchmark(
        "training_speed",
        "Training",
        "Each peer is a process that trains the same network on the same data; their epochs take turns. The column "
        "with bars is the peer's median time of an epoch divided by ours: above 1, aip is faster. `by hand` is a "
        "compiled loop over a whole epoch, written for this model alone, that only trains: the limit. `first` are "
        "the seconds from the import to the first update, `compiling` is what the first epoch takes longer.",
        quick=("--rounds", "2", "--models", "MLP"),
    ),
    Benchmark(
        "train_step",
        "What options cost",
        "An epoch of the MLP against `Model.fit`; AdaBelief, averaged weights and clipping against plain Adam.",
        quick=("--epochs", "1", "--runs", "1"),
    ),
    Benchmark(
        "pipeline",
        "The data pipeline",
        "Samples a second of a task of about 1 ms in Python, and in NumPy, with 0, 1 and 2 worker processes.",
        quick=("--rounds", "1"),
    ),
    Benchmark(
        "processors",
        "Processors",
        "An epoch of the tutorial with its processors, and with random shifts, against the same loop on raw arrays.",
        quick=("1",),
    ),
    Benchmark(
        "memory",
        "Memory",
        "What a process holds after 20 and after 200 epochs; how many times data is there with and without workers.",
    ),
    Benchmark(
        "predictor",
        "One sample at a time",
        "A loaded predictor against the bare call of the exported model.",
        quick=("50",),
    ),
    Benchmark(
        "checkpoint",
        "Checkpoints",
        "Time per save and share of training time for 1 and 100 million weights, against Keras and Orbax: `waits` is "
        "how long training waits, `on disk` until all is written, `costs` how much longer 200 steps with a save take.",
        quick=("--weights", "1", "--saves", "1"),
    ),
)


def run(benchmark: Benchmark, *, quick: bool) -> dict[str, object]:
    """Runs a script; what it prints is shown and kept."""
    words = [*benchmark.words, *(benchmark.quick if quick else ())]
    print(f"\n== {benchmark.title}: python benchmarks/{benchmark.script}.py {' '.join(words)}", flush=True)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(HERE / f"{benchmark.script}.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return {"status": process.wait(), "seconds": round(time.perf_counter() - begun), "output": "".join(lines)}


def page(results: dict[str, dict[str, object]], head: str) -> str:
    """The page: tables as they are, other output as it was printed."""
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`. Every number is a ratio to a peer that was measured in the same run, in turns, by "
        "medians; absolute times say something about one machine only.\n",
        f"    {head}\n",
    ]
    for benchmark in BENCHMARKS:
        if benchmark.key not in results:
            continue
        result = results[benchmark.key]
        output = str(result["output"]).strip()
        parts += [f"## {benchmark.title}\n", f"{benchmark.about} (`benchmarks/{benchmark.script}.py`)\n"]
        parts.append(f"{output}\n" if "\n| " in output else f"```text\n{output}\n```\n")
        if result["status"]:
            parts.append(f"It failed with status {result['status']}.\n")
    return "\n".join(parts)


def main() -> None:
    """Runs, prints and writes; ends with 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="scripts to run; the results of the others are kept")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see whether everything runs")
    arguments = parser.parse_args()
    head = machine("tensorflow", "keras", "numpy", "aipcore")
    print(head)
    results: dict[str, dict[str, object]] = {}
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
        results = kept["results"] if kept["machine"] == head else {}
    failed = False
    for benchmark in BENCHMARKS:
        if arguments.only and benchmark.script not in arguments.only:
            continue
        results[benchmark.key] = run(benchmark, quick=arguments.quick)
        failed = failed or bool(results[benchmark.key]["status"])
        RESULTS.write_text(json.dumps({"machine": head, "results": results}, indent=1) + "\n", encoding="utf-8")
        if not arguments.quick:
            PAGE.write_text(page(results, head), encoding="utf-8")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
