"""Training speed of aip and its peers: one table, with a row for each kind of model that users train.

The peers of a framework share a process. The epochs of all peers take turns, so all see the same machine noise. A ratio
is the median over the rounds of a peer's epoch time divided by aip's in the same round: above 1, aip is faster. A row
is met if the ratio to the fastest peer is at least 1. A peer that needs 3 times as long as aip is measured only twice.

    python benchmarks/training_speed.py [--row gpt photos] [--rounds 3] [--quick] [--calamari FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
from engine.models import BY_HAND, FIT, GROUPS, JAX, TORCH, all_tasks
from peers import machine

WORKER = Path(__file__).parent / "engine" / "worker.py"
LONGEST_TURN = 300.0
"""Seconds after which the peers of a framework are ended and skipped, on a machine without other load."""

LOADED = 10
"""Factor of `LONGEST_TURN` if CPU time is compared."""

SLOW = 3.0
"""Ratio from which a peer is measured only twice."""

QUICK = ("aip", FIT[0], TORCH[0])
MORE = ("gpt-bfloat16",)
"""Rows on request only."""

BFLOAT16 = ("resnet-bfloat16", "gpt-bfloat16")
"""Rows that need a processor with instructions for bfloat16. Without them, a step took 10 times as long in PyTorch."""

LINES = "lines"
CALAMARI_LINES, CALAMARI_EPOCHS = 208, 4
ENVIRONMENT = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""The processes share a GPU."""


class Worker:
    """A process with the peers of a framework. It starts with its first turn."""

    def __init__(self, row: str, clock: str = "seconds") -> None:
        self._row = row
        self._longest = LONGEST_TURN * (1 if clock == "seconds" else LOADED)
        self._process: subprocess.Popen[str] | None = None

    def turn(self, peer: str) -> dict[str, Any]:
        """Train an epoch of a peer, and return its seconds or the reason why it is skipped."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), self._row], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env={**os.environ, **ENVIRONMENT},
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limit = threading.Timer(self._longest, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(f"{peer}\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("@"):
                    answer: dict[str, Any] = json.loads(line[1:])
                    return answer
        except BrokenPipeError:
            pass
        finally:
            limit.cancel()
        return {"skipped": f"its process ended, or needed more than {self._longest:g} s"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@attrs.define
class Peer:
    """The results of a peer.

    Attributes:
        clock: "seconds" or "cpu_seconds".
        seconds: of each epoch but the first two. The first one ends `first`; the second may still compile.
        first: seconds to the first update.
    """

    name: str
    worker: Worker
    clock: str = "seconds"
    seconds: list[float] = attrs.field(factory=list)
    first: float = 0.0
    skipped: str = ""

    def turn(self, number: int) -> None:
        """Train an epoch."""
        answer = self.worker.turn(self.name)
        self.skipped = answer.get("skipped", "")
        if not self.skipped and number == 0:
            self.first = answer["seconds"]
        elif not self.skipped and number > 1:
            self.seconds.append(answer[self.clock])

    def ratio(self, ours: Peer) -> float:
        """Return the median ratio to the epochs of aip in the same rounds."""
        return statistics.median(theirs / own for theirs, own in zip(self.seconds, ours.seconds, strict=False))


def measure(row: str, rounds: int, names: list[str], clock: str) -> list[Peer]:
    """Measure peers on one task, aip first."""
    workers = [Worker(row, clock) for _ in GROUPS]
    pairs = [(name, worker) for worker, group in zip(workers, GROUPS, strict=True) for name in group if name in names]
    peers = [Peer(name, worker, clock) for name, worker in pairs]
    ours = peers[0]
    try:
        for number in range(rounds + 2):
            for peer in peers:
                slow = len(peer.seconds) > 1 and bool(ours.seconds) and peer.ratio(ours) > SLOW
                if not peer.skipped and not slow:
                    peer.turn(number)
    finally:
        for worker in workers:
            worker.close()
    return peers


def result(row: str, title: str, steps: int, peers: list[Peer]) -> dict[str, Any]:
    """Return the results of a row: of the peers that ran, and the reasons why others did not."""
    ours, *others = peers
    ran = [peer for peer in others if peer.seconds and ours.seconds]
    return {
        "row": row, "title": title, "ratios": {peer.name: peer.ratio(ours) for peer in ran},
        "step_ms": {
            peer.name: 1000 * statistics.median(peer.seconds) / steps for peer in peers if peer.seconds
        },
        "first_update_s": {peer.name: peer.first for peer in peers if peer.first},
        "skipped": {peer.name: peer.skipped for peer in peers if peer.skipped},
    }  # fmt: skip


def calamari(folder: Path | None) -> dict[str, Any]:
    """Compare an epoch of text lines with Calamari, with validation."""
    title = "Text recognition, lines of 48 pixels"
    if folder is None:
        return result(LINES, title, 1, [Peer("Calamari", Worker(LINES), skipped="no --calamari FOLDER")])
    import ocr

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        files = ocr.fonts(work / "fonts")
        for part, count, seed in (("train", CALAMARI_LINES, 1), ("held_out", 60, 2)):
            ocr.render(work / part, count, seed, files)
        peers = ocr.training(work, folder, CALAMARI_EPOCHS)
        ocr.in_turns(peers, CALAMARI_EPOCHS)
    measured = [
        Peer(name, Worker(LINES), seconds=peer.seconds[1:], first=peer.seconds[0]) for name, peer in peers.items()
    ]
    return result(LINES, title, CALAMARI_LINES // ocr.BATCH_SIZE, measured)


def has_bfloat16() -> bool:
    """Return True if the CPU has instructions for bfloat16."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and re.search(r"\b(avx512_|amx_)?bf16\b", flags.read_text("utf-8")) is not None


def line(found: dict[str, Any]) -> str:
    """Return the row of the table."""
    ratios = found["ratios"]
    peers = {name: ratio for name, ratio in ratios.items() if name not in BY_HAND}
    reasons = "; ".join(f"{name}: {reason}" for name, reason in found["skipped"].items())
    if not peers:
        return f"| {found['row']} | {found['title']} | skipped: {reasons} |"
    best = min(peers, key=peers.__getitem__)
    columns = [
        found["row"], found["title"], f"{found['step_ms']['aip']:.3g}", best, f"{peers[best]:.2f}",
        "█" * min(20, round(5 * peers[best])), "met" if peers[best] >= 1 else "NOT met",
        *(_least(ratios, names) for names in ((FIT[0],), FIT, *((name,) for name in (*TORCH, *JAX)), BY_HAND)),
    ]  # fmt: skip
    return f"| {' | '.join(columns)} |" + (f" {reasons}" if reasons else "")


def _least(ratios: dict[str, float], names: tuple[str, ...]) -> str:
    found = [ratios[name] for name in names if name in ratios]
    return f"{min(found):.2f}" if found else ""


HEAD = (
    "| row | trains | aip, ms a step | fastest peer | ratio | | at least 1 | fit | fit, best | PyTorch | compiled | "
    "Lightning | JAX | by hand |\n|---|---|--:|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|"
)


def main() -> None:
    """Measure and print."""
    tasks = all_tasks()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = [row for row in [*tasks, LINES] if row not in MORE and (row not in BFLOAT16 or has_bfloat16())]
    parser.add_argument("--row", nargs="+", choices=[*tasks, LINES], default=default, help="only these rows")
    parser.add_argument("--rounds", type=int, default=3, help="measured epochs of each peer (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"one round, and only {', '.join(QUICK)}")
    parser.add_argument("--every-peer", action="store_true", help="also peers that are known to be slow on a CPU")
    parser.add_argument(
        "--cpu-time", action="store_true",
        help="compare CPU seconds of the processes, without those of data workers, for a machine with other load",
    )  # fmt: skip
    parser.add_argument("--by-hand", action="store_true", help="also loops written by hand for each model")
    parser.add_argument(
        "--calamari", type=Path, default=os.environ.get("AIP_CALAMARI"),
        help="an environment with Calamari, made by ocr.py (default: the variable AIP_CALAMARI)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write the results to this JSON file")
    arguments = parser.parse_args()
    head = machine("tensorflow", "keras", "numpy", *filter(_is_installed, ("torch", "lightning", "jax")))
    print(f"{head}\n\n{HEAD}", flush=True)
    begun, everything = time.perf_counter(), []
    for row in arguments.row:
        if row == LINES:
            found = calamari(None if arguments.quick else arguments.calamari)
        else:
            task = tasks[row]
            left_out = set() if arguments.every_peer else set(task.without)
            left_out |= set() if arguments.by_hand else set(BY_HAND)
            names = [name for group in GROUPS for name in group if name not in left_out]
            names = [name for name in names if name in QUICK or not arguments.quick]
            rounds, clock = (
                1 if arguments.quick else arguments.rounds,
                "cpu_seconds" if arguments.cpu_time else "seconds",
            )
            found = result(row, task.title, task.steps, measure(row, rounds, names, clock))
        everything.append(found)
        print(line(found), flush=True)
        if arguments.json:
            text = json.dumps({"machine": head, "rows": everything}, indent=1)
            arguments.json.write_text(f"{text}\n", encoding="utf-8")
    if not has_bfloat16() and "--row" not in sys.argv:
        print(f"\nNot measured, because this CPU has no instructions for bfloat16: {', '.join(BFLOAT16)}.")
    print(f"\n{(time.perf_counter() - begun) / 60:.1f} minutes")


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
