"""Run all benchmarks in sequence and write their output to docs/benchmarks.md.

Run it on an otherwise idle machine. Peers that are not installed are skipped with a note. To install them:
`pip install 'aipcore[bench]' torch lightning`.

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
    """A script, its title and description, and its arguments for a full and for a quick run."""

    script: str
    title: str
    about: str
    words: Sequence[str] = ()
    quick: Sequence[str] = ()

    @property
    def key(self) -> str:
        """The key of the benchmark in the results."""
        return " ".join([self.script, *self.words])


BENCHMARKS = (
    Benchmark(
        "startup",
        "Startup",
        "Time of whole processes, relative to importing the libraries of the command line.",
        quick=("3",),
    ),
    Benchmark(
        "costs",
        "A run beside its steps",
        "Time of `aip train tutorial` from start to end, compared with importing TensorFlow and Keras plus its steps "
        "in a hand-written loop. Then the time in which training waits for the other parts of long epochs.",
        quick=("--runs", "1", "--samples", "3200", "--epochs", "2"),
    ),
    Benchmark(
        "training_speed",
        "Training",
        "Each peer is a process that trains the same network on the same data. Their epochs take turns. `speedup` is "
        "the peer's median epoch time divided by aip's: above 1, aip is faster. `by hand` is a compiled loop over a "
        "whole epoch, written only for this model and without any other feature: the limit. `first` is the time from "
        "the import to the first update. `compiling` is the extra time of the first epoch.",
        quick=("--rounds", "2", "--models", "MLP"),
    ),
    Benchmark(
        "train_step",
        "Cost of options",
        "An epoch of the MLP relative to `Model.fit`; AdaBelief, EMA of the weights and clipping relative to Adam.",
        quick=("--epochs", "1", "--runs", "1"),
    ),
    Benchmark(
        "step_log",
        "Values by update",
        "Calls of the compiled loop of the MLP with values logged to TensorBoard, relative to calls without.",
        quick=("--calls", "3", "--every", "50"),
    ),
    Benchmark(
        "sources",
        "Kinds of data",
        "An epoch of the MLP on data of each kind. aip runs with and without XLA, `Model.fit` also with 1 and 32 steps "
        "per call, on the same object; the fastest of each counts.",
        quick=("--epochs", "2", "--rounds", "1", "--batches", "256"),
    ),
    Benchmark(
        "variable_length",
        "Texts of varying length",
        "An epoch of a bidirectional LSTM on texts of varying length, relative to `Model.fit` on the same batches. For "
        "XLA, batches are padded to a few sizes.",
        quick=("--epochs", "2", "--rounds", "1", "--texts", "512"),
    ),
    Benchmark(
        "pipeline",
        "The data pipeline",
        "Samples per second of a task of about 1 ms in Python and in NumPy, with 0, 1 and 2 worker processes.",
        quick=("--rounds", "1"),
    ),
    Benchmark(
        "processors",
        "Processors",
        "An epoch of the tutorial with its processors, and with random shifts, relative to raw arrays.",
        quick=("1",),
    ),
    Benchmark(
        "memory",
        "Memory",
        "Memory of a process after 20 and after 200 epochs, growth over 20 runs in one process, and peak memory for 1 "
        "GiB of data with and without worker processes.",
    ),
    Benchmark(
        "predictor",
        "One sample at a time",
        "A loaded predictor compared with the bare call of the exported model.",
        quick=("50",),
    ),
    Benchmark(
        "fine_tuning",
        "Fine-tuning to new characters",
        "Epochs of a text model to the same character error rate on held-out lines of 60 characters: new, from a model "
        "of 50 of them with a new output layer, and with the weights of known characters kept.",
        quick=("--epochs", "2"),
    ),
    Benchmark(
        "ocr",
        "Text recognition",
        "`text_line_recognition` compared with Calamari 2.3.1 (TensorFlow 2.15), on the same lines, network, batch "
        "size and number of epochs, without augmentation, with validation after each epoch.",
        quick=("--lines", "32", "--held-out", "8", "--epochs", "2"),
    ),
    Benchmark(
        "checkpoint",
        "Checkpoints",
        "Time per save and share of training time for 1 and 100 million weights, compared with Keras and Orbax. "
        "`waits` is the time that training waits, `on disk` the time until everything is written, and `costs` the "
        "extra time of 200 steps with a save.",
        quick=("--weights", "1", "--saves", "1"),
    ),
)


def run(benchmark: Benchmark, *, quick: bool) -> dict[str, object]:
    """Run a script; print and return its output."""
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
    """Return the page: tables as Markdown, other output in code blocks."""
    parts = [
        "# Benchmarks\n",
        "Generated by `make bench`. Ratios compare medians with those of a peer, measured in turns in the same run. "
        "Absolute times are valid for one machine only.\n",
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
            parts.append(f"Failed with exit status {result['status']}.\n")
    return "\n".join(parts)


def main() -> None:
    """Run, print and write. Exit with 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="scripts to run; keep the results of the others")
    parser.add_argument("--quick", action="store_true", help="run few rounds, to check that every benchmark works")
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
