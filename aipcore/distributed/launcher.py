"""The launcher of a run's workers on this machine: it merges their output into one log and leaves no process behind."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import IO

from aipcore.distributed.cluster import LAUNCHER, SECRET, Cluster
from aipcore.errors import UsageError
from aipcore.params.names import count

HOST = "127.0.0.1"

ALONE_SECONDS = 10.0
"""Seconds that the other workers may continue after one has failed. Once connected, they end sooner by themselves."""

IDLE_SECONDS = 2.0
"""Seconds that the other workers may continue after a usage error, when nothing has been computed yet."""

USAGE = 2

CHILD = """
import ctypes, os, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: whatever ends the launcher ends its workers.
    if os.getppid() != parent:
        sys.exit(1)
from aipcore.cli.main import main
sys.exit(main())
"""


def free_ports(count: int) -> list[int]:
    """Return free ports of the loopback interface."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def gpu_shares(workers: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Return, for each worker, the environment variable that assigns its share of the GPUs; empty without GPUs.

    Raises:
        UsageError: the GPUs cannot be shared evenly.
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
        gpus = [] if names and names[0].strip() == "-1" else names
    else:
        gpus = [str(number) for number in range(_count_gpus())]
    if len(gpus) % workers:
        raise UsageError(
            f"{count(len(gpus), 'GPU')} cannot be shared evenly by {count(workers, 'worker')}. Change --workers, or "
            "select GPUs with CUDA_VISIBLE_DEVICES (-1 for none)."
        )
    share = len(gpus) // workers
    if not share:
        return [{}] * workers
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[n * share : (n + 1) * share])} for n in range(workers)]


def _count_gpus() -> int:
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


class Launch:
    """The processes of one run.

    Args:
        words: the command line of each process, after `aip`.
        ports: one port for each worker.
        shares: additional environment variables of each worker.
    """

    def __init__(self, words: Sequence[str], ports: Sequence[int], shares: Sequence[Mapping[str, str]]) -> None:
        self._words = list(words)
        self._addresses = tuple(f"{HOST}:{port}" for port in ports)
        self._shares = shares
        self._secret = secrets.token_hex(32)
        self._workers: list[subprocess.Popen[str]] = []
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._signals = 0

    def run(self) -> int:
        """Start all workers and wait for them.

        Returns:
            The exit code of the first worker that failed, as a shell reports it; 0 if none failed.
        """
        previous = {number: signal.signal(number, self._forward) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            readers = [reader for index in range(len(self._addresses)) for reader in self._start(index)]
            code = self._wait()
            for reader in readers:
                reader.join(5)
            return code
        finally:
            self._kill()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self, index: int) -> list[threading.Thread]:
        """Start a worker and the threads that relay its output."""
        own = {"TF_CONFIG": Cluster(self._addresses, index).tf_config, SECRET: self._secret}
        own[LAUNCHER] = f"aip launch --workers {len(self._addresses)}"
        environment = {**os.environ, **self._shares[index], **own}
        chief = index == 0
        worker = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(os.getpid()), *self._words],
            # The chief uses the terminal directly, for its progress bar. Its errors are relayed, to drop duplicates.
            stdin=None if chief else subprocess.DEVNULL,
            stdout=None if chief else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
            # Ctrl-C reaches only this process, which forwards it.
            start_new_session=True,
        )
        self._workers.append(worker)
        streams = [(worker.stdout, sys.stdout), (worker.stderr, sys.stderr)]
        threads = [
            threading.Thread(target=self._relay, args=(index, source, target), daemon=True)
            for source, target in streams
            if source is not None
        ]
        for thread in threads:
            thread.start()
        return threads

    def _relay(self, index: int, source: IO[str], target: IO[str]) -> None:
        label = "" if index == 0 else f"[worker {index}] "
        for line in source:
            text = line.removeprefix(label)
            with self._lock:
                # An error that ends one worker ends all, often with the same message: show it once.
                if text.startswith("error: ") and text in self._said:
                    continue
                self._said.add(text)
                target.write(label + text)
                target.flush()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signals += 1
        for worker in self._workers:
            if worker.poll() is None:
                # A third Ctrl-C kills the workers.
                worker.send_signal(signal.Signals(number) if self._signals < 3 else signal.SIGKILL)

    def _wait(self) -> int:
        first, ours = 0, False
        deadline = None
        while running := [worker for worker in self._workers if worker.poll() is None]:
            failed = self._cause()
            if failed and not first:
                first, deadline = failed, time.monotonic() + (IDLE_SECONDS if failed == USAGE else ALONE_SECONDS)
            if deadline is not None and time.monotonic() > deadline:
                ours = True
                self._kill()
            try:
                running[0].wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        last = self._cause()
        # A killed worker may end later than those that lost it.
        if not first or (last < 0 and not ours):
            first = last
        return 128 - first if first < 0 else first

    def _cause(self) -> int:
        """Return the exit code of the worker that failed: a killed one first, else the first; 0 if none failed.

        Other workers that lost it may have ended since the last check.
        """
        codes = [worker.returncode for worker in self._workers if worker.poll()]
        return next((code for code in codes if code < 0), codes[0] if codes else 0)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                try:
                    os.killpg(worker.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for worker in self._workers:
            worker.wait()
