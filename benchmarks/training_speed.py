"""Training speed of aip and its peers, on six models.

Each peer runs in its own process. Their epochs take turns, so all see the same machine noise. The printed ratios are
ratios of medians: above 1, aip is faster. The limit is the faster of two hand-written loops that only train.

    python benchmarks/training_speed.py [--rounds 5] [--models MLP CNN] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from engine.models import TASKS
from peers import machine

WORKER = Path(__file__).parent / "engine" / "worker.py"
PEERS = (
    "aip", "Model.fit", "Model.fit, 50 steps per call", "Model.fit, XLA", "by hand, graph", "by hand, XLA", "PyTorch",
    "PyTorch, compiled", "Lightning", "JAX scan",
)  # fmt: skip
LIMIT_TARGET = 0.9
FIT_TARGET = 5.0
SLOWEST_EPOCH = 60.0
"""Seconds. A peer with longer epochs is measured once."""

LONGEST_TURN = 120.0
"""Seconds after which a peer is ended and skipped."""


class Peer:
    """A worker process."""

    def __init__(self, task: str, name: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.first = self.peak = 0.0
        self.skipped = ""
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), task, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def turn(self) -> None:
        """Train one epoch. The first turn ends with the first update."""
        if self.skipped or (self.seconds and self.seconds[-1] > SLOWEST_EPOCH):
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        limit = threading.Timer(LONGEST_TURN, self._process.kill)
        limit.start()
        begun = time.perf_counter()
        for line in self._process.stdout:
            if line.startswith("@"):
                answer = json.loads(line[1:])
                break
        else:
            late = time.perf_counter() - begun >= LONGEST_TURN
            answer = {"skipped": f"a turn takes more than {LONGEST_TURN:g} s" if late else "the peer failed"}
        limit.cancel()
        if "skipped" in answer:
            self.skipped = answer["skipped"]
            return
        self.peak = answer["peak_mib"]
        if not self.first:
            self.first = answer["seconds"]
        else:
            self.seconds.append(answer["seconds"])

    @property
    def median(self) -> float:
        """Median seconds per epoch, without the first, which compiles."""
        return statistics.median(self.seconds[1:] or self.seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def measure(task: str, rounds: int) -> list[Peer]:
    """Measure all peers on one task."""
    peers = [Peer(task, name) for name in PEERS]
    try:
        for _ in range(rounds + 2):
            for peer in peers:
                peer.turn()
    finally:
        for peer in peers:
            peer.close()
    return peers


def rows(task: str, peers: list[Peer]) -> list[dict[str, Any]]:
    """Return the results of each peer."""
    ours = next(peer for peer in peers if peer.name == "aip").median
    steps = TASKS[task].samples // TASKS[task].batch_size
    found = []
    for peer in peers:
        row: dict[str, Any] = {"model": task, "peer": peer.name, "skipped": peer.skipped}
        if peer.seconds:
            row |= {
                "ratio": peer.median / ours, "step_ms": 1000 * peer.median / steps, "peak_mib": peer.peak,
                "samples_per_second": TASKS[task].samples / peer.median, "first_step_s": peer.first,
                "compile_s": max(0.0, peer.seconds[0] - peer.median),
            }  # fmt: skip
        found.append(row)
    return found


def verdicts(task: str, found: list[dict[str, Any]]) -> list[str]:
    """Return one line per target: met or not."""
    ratios = {row["peer"]: row["ratio"] for row in found if "ratio" in row}
    limit = min(ratio for name, ratio in ratios.items() if name.startswith("by hand"))
    best_fit = min(ratio for name, ratio in ratios.items() if name.startswith("Model.fit"))
    checks = [
        (f"{limit:.2f} of the hand-written limit (target {LIMIT_TARGET})", limit >= LIMIT_TARGET),
        (f"{best_fit:.2f} times as fast as the best Model.fit (target 1)", best_fit >= 1),
    ]
    if task.startswith("MLP") and task.endswith(" 16"):
        default = ratios["Model.fit"]
        text = f"{default:.2f} times as fast as Model.fit's defaults (target {FIT_TARGET:g})"
        checks.append((text, default >= FIT_TARGET))
    return [f"{'met' if met else 'NOT met'}: {text}" for text, met in checks]


def table(found: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table with bars."""
    lines = ["| model | peer | speedup | | ms/step | samples/s | peak MiB | first, s | compiling, s |",
             "|---|---|--:|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for row in found:
        if row["skipped"]:
            lines.append(f"| {row['model']} | {row['peer']} | | skipped: {row['skipped']} | | | | | |")
            continue
        bar = "█" * min(40, round(4 * row["ratio"]))
        lines.append(
            f"| {row['model']} | {row['peer']} | {row['ratio']:.2f} | {bar} | {row['step_ms']:.3f} | "
            f"{row['samples_per_second']:,.0f} | {row['peak_mib']:.0f} | {row['first_step_s']:.1f} | "
            f"{row['compile_s']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measured epochs per peer (default: %(default)s)")
    parser.add_argument("--models", nargs="*", default=[], help="only models whose names start with one of these")
    parser.add_argument("--json", type=Path, help="also write the results to this JSON file")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    head = machine("tensorflow", "keras", "numpy")
    print(head)
    everything: list[dict[str, Any]] = []
    text = [f"{head}\n"]
    for task in TASKS:
        if arguments.models and not any(task.startswith(name) for name in arguments.models):
            continue
        found = rows(task, measure(task, arguments.rounds))
        everything += found
        part = "\n".join([f"### {task}\n", table(found), "", *(f"* {line}" for line in verdicts(task, found)), ""])
        print(part, flush=True)
        text.append(part)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": head, "rows": everything}, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
