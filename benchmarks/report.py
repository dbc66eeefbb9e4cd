"""Run the training benchmark, or all benchmarks in sequence, and write their output to docs/benchmarks.md.

Run it on an otherwise idle machine. Peers that are not installed are skipped with a note. To install them:
`pip install 'aipcore[bench]' torch lightning`. The row against Calamari needs the variable `AIP_CALAMARI`
(`training_speed.py`).

    python benchmarks/report.py [--all | --only NAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
from peers import machine

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


@attrs.frozen
class Benchmark:
    """A script, its title and description, and its arguments for a full and for a quick run."""

    script: str
    title: str
    about: str
    words: Sequence[str] = ()
    quick: Sequence[str] = ()


BENCHMARKS = (
    Benchmark(
        "training_speed",
        "Training",
        "Each peer trains the same network on the same data. Their epochs take turns. A ratio is the median of a "
        "peer's epoch time divided by aip's in the same round: above 1, aip is faster. `fit, best` is the fastest of "
        "the four combinations of one or many steps per call and XLA. `compiled` is `torch.compile` with the fused "
        "Adam. `JAX` is Keras' JAX backend in a `lax.scan` over the epoch. Data is in memory, except for photographs, "
        "which each framework reads and augments in its own way. XLA and JAX are left out for convolutions, where they "
        "are mostly several times as slow on a CPU.",
        quick=("--quick",),
    ),
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


def run(benchmark: Benchmark, *, quick: bool) -> tuple[str, int]:
    """Run a script; print and return its output, and return its exit status."""
    words = [*benchmark.words, *(benchmark.quick if quick else ())]
    print(f"\n== {benchmark.title}: python benchmarks/{benchmark.script}.py {' '.join(words)}", flush=True)
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
    return "".join(lines).strip(), process.wait()


def section(benchmark: Benchmark, output: str) -> str:
    """Return the text below the title of a benchmark: tables as Markdown, other output in a code block."""
    shown = output if "\n| " in output else f"```text\n{output}\n```"
    return f"\n\n{benchmark.about} (`benchmarks/{benchmark.script}.py`)\n\n{shown}\n\n"


def write(benchmark: Benchmark, output: str) -> None:
    """Replace the section of a benchmark on the page, or add it. Sections of other benchmarks stay."""
    start, *rest = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    sections[benchmark.title] = section(benchmark, output)
    titles = [each.title for each in BENCHMARKS]
    # Sections that are written by hand come last.
    order = sorted(sections, key=lambda title: titles.index(title) if title in titles else len(titles))
    text = start + "".join(f"## {title}{sections[title]}" for title in order)
    PAGE.write_text(f"{text.rstrip()}\n", encoding="utf-8")


def main() -> None:
    """Run, print and write. Exit with 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="run all benchmarks, not only that of training")
    parser.add_argument("--only", nargs="+", default=["training_speed"], help="scripts to run")
    parser.add_argument("--quick", action="store_true", help="few rounds, to check that it works; the page stays")
    arguments = parser.parse_args()
    print(machine("tensorflow", "keras", "numpy", "aipcore"))
    failed = False
    for benchmark in BENCHMARKS:
        if not arguments.all and benchmark.script not in arguments.only:
            continue
        output, status = run(benchmark, quick=arguments.quick)
        failed = failed or bool(status)
        if not (arguments.quick or status):
            write(benchmark, output)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
