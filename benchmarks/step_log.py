"""Cost of values logged by update: epoch times with `--trainer.log_every_steps`, relative to a run without.

The network of train_step.py (60,000 images, batch 16, Dense 128 and Dense 10). Each variant is a process that writes
TensorBoard files and a JSON log; their epochs take turns, so that all see the same machine noise. The fastest epoch of
each counts, since noise adds time. The CPU time of all threads hardly depends on other processes.

    python benchmarks/step_log.py [--rounds 9] [--every 10 50 500]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import machine

LIMIT = 1.02
"""The maximum cost of logging every 50 updates."""


def work(every: int, folder: Path) -> None:
    """Train, with values logged every `every` updates (0: never), and wait for input before each epoch."""
    import train_step

    from aipcore.cli.json_reporter import JsonReporter
    from aipcore.training.reporter import EpochReport, Reporter, Reporters

    class Turns(Reporter):
        def plan(self, rows: list[tuple[str, str]]) -> None:
            print(dict(rows)["loop"], flush=True)

        def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
            self.begun = time.process_time()

        def epoch_ended(self, report: EpochReport) -> None:
            print(f"@{report.seconds} {time.process_time() - self.begun}", flush=True)
            if not sys.stdin.readline():
                sys.exit()

    reporter = Reporters(JsonReporter(folder / "log.jsonl"), Turns())
    more = {"trainer.output_dir": str(folder / "run"), "trainer.write_checkpoints": False, "trainer.export_best": False}
    if every:
        more["trainer.log_every_steps"] = every
    train_step.make_trainer(reporter, 1000, {"trainer.jit_compile": "on", **more}).fit()


class Variant:
    """A process that trains one epoch per turn."""

    def __init__(self, every: int, folder: Path) -> None:
        folder.mkdir()
        self.every = every
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        command = [sys.executable, __file__, "--worker", str(every), str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def turn(self) -> None:
        """Train one epoch."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self.seconds:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("@"):
                seconds, cpu_seconds = map(float, line[1:].split())
                self.seconds.append(seconds)
                self.cpu_seconds.append(cpu_seconds)
                return
        raise SystemExit(f"The variant {self.every} failed.")

    @property
    def fastest(self) -> tuple[float, float]:
        """The seconds of the fastest epoch and the least CPU seconds, without the first two epochs, which warm up."""
        return min(self.seconds[2:]), min(self.cpu_seconds[2:])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="measured epochs of each variant (default: %(default)s)")
    parser.add_argument("--every", type=int, nargs="+", default=[10, 50, 500], help="updates between logged values")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(int(arguments.worker[0]), Path(arguments.worker[1]))
        return
    print(machine("tensorflow", "keras", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        # Two equal variants without logging show the noise.
        variants = [Variant(every, Path(folder) / str(n)) for n, every in enumerate([0, 0, *arguments.every])]
        try:
            for _ in range(arguments.rounds + 2):
                for variant in variants:
                    variant.turn()
        finally:
            for variant in variants:
                variant.close()
    plain, *others = variants
    print(f"{'fastest epoch without logging':<32} {plain.fastest[0]:8.3f} s, {plain.fastest[1]:8.3f} s of CPU time")
    for variant in others:
        what = f"--trainer.log_every_steps {variant.every}" if variant.every else "the same again (noise)"
        wall, cpu = (ours / theirs for ours, theirs in zip(variant.fastest, plain.fastest, strict=True))
        limit = f" (limit {LIMIT})" if variant.every == 50 else ""
        print(f"{what:<32} {wall:8.3f} times, {cpu:8.3f} times{limit}")


if __name__ == "__main__":
    main()
