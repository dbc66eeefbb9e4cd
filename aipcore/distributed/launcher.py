"""The launcher of a run's workers: it merges their output into one log and leaves no process behind."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from types import FrameType
from typing import IO, Any, Protocol

import attrs

from aipcore.distributed.cluster import LAUNCHER, SECRET, Cluster
from aipcore.errors import UsageError
from aipcore.params.names import count, one_of

HOST = "127.0.0.1"

CLUSTERS = "aip.clusters"
"""The group of entry points that name clusters: functions from the options of `--cluster NAME:OPTIONS` to `Hosts`."""

ALONE_SECONDS = 10.0
"""Seconds that the other workers may continue after one has failed. Once connected, they end sooner by themselves."""

IDLE_SECONDS = 2.0
"""Seconds that the other workers may continue after a usage error, when nothing has been computed yet."""

USAGE = 2

ERROR = "error: "
"""The beginning of the line with which a worker reports an error."""

CHILD = """
import ctypes, os, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: whatever ends the launcher ends its workers.
    if os.getppid() != parent:
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's threads block SIGINT, and their children inherit that.
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


class WorkerProcess(Protocol):
    """A started worker: the part of the interface of `subprocess.Popen` that the launcher uses."""

    @property
    def stdout(self) -> Iterable[str] | None:
        """The lines of its output; None if the worker writes to the terminal."""

    @property
    def stderr(self) -> Iterable[str] | None:
        """The lines of its errors."""

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative number of a signal if it was killed or its host was lost; None while it runs."""

    def poll(self) -> int | None:
        """Return `returncode`, after updating it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the worker."""

    def kill(self) -> None:
        """Kill the worker and its children."""


class Hosts(Protocol):
    """The hosts of the workers.

    Attributes:
        patience: seconds that the other workers may continue after one has failed. A lost host must be known by then.
    """

    patience: float

    def place(self, workers: int, port_base: int | None) -> Sequence[str]:
        """Select a host and a port for each worker, and return them as `host:port`, those of the chief first.

        Args:
            workers: the number of workers.
            port_base: port of the first worker; None for free ports.
        """

    def start(self, index: int, words: Sequence[str], environment: Mapping[str, str]) -> WorkerProcess:
        """Start a worker.

        Args:
            index: the index of the worker.
            words: its command line, after `aip`.
            environment: its additional environment variables.
        """

    def release(self) -> None:
        """Free the hosts. No worker runs any more. Another call of `place` may follow."""


def find_hosts(cluster: str | None) -> Hosts:
    """Return the hosts that `--cluster NAME:OPTIONS` selects; without it, this machine.

    Raises:
        UsageError: there is no such cluster, or it cannot be used.
    """
    if cluster is None:
        return LocalHosts()
    name, _, options = cluster.partition(":")
    found = {point.name: point for point in entry_points(group=CLUSTERS)}
    if name not in found:
        raise UsageError(f"--cluster {name} is not available. Choose {one_of(sorted(found))}.")
    hosts: Hosts = found[name].load()(options)
    return hosts


class LocalWorker(subprocess.Popen[str]):
    """A worker on this machine, in a session of its own."""

    def kill(self) -> None:
        """Kill the worker and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def start_worker(
    words: Sequence[str], environment: Mapping[str, str], *, folder: str | None = None, terminal: bool = False
) -> LocalWorker:
    """Start a worker, which ends with this process.

    Args:
        words: its command line, after `aip`.
        environment: its additional environment variables.
        folder: its working folder; None for that of this process.
        terminal: True if it shares the input and the output of this process.
    """
    return LocalWorker(
        [sys.executable, "-c", CHILD, str(os.getpid()), *words],
        stdin=None if terminal else subprocess.DEVNULL,
        stdout=None if terminal else subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **environment},
        text=True,
        errors="replace",
        # Ctrl-C reaches only the launcher, which forwards it.
        start_new_session=True,
    )


class LocalHosts:
    """This machine."""

    patience = ALONE_SECONDS

    def place(self, workers: int, port_base: int | None) -> Sequence[str]:
        """Divide the GPUs, and return an address of the loopback interface for each worker."""
        self._shares = gpu_shares(workers, os.environ)
        ports = free_ports(workers) if port_base is None else range(port_base, port_base + workers)
        return [f"{HOST}:{port}" for port in ports]

    def start(self, index: int, words: Sequence[str], environment: Mapping[str, str]) -> WorkerProcess:
        """Start a worker."""
        # The chief uses the terminal directly, for its progress bar. Its errors are relayed, to drop duplicates.
        return start_worker(words, {**self._shares[index], **environment}, terminal=index == 0)

    def release(self) -> None:
        """Do nothing."""


@attrs.frozen
class End:
    """The end of all workers.

    Attributes:
        code: the exit code of the first worker that failed, as a shell reports it; 0 if none failed.
        lost: index of a worker that was killed or lost with its host; None if none was, or if the user stopped it.
        explained: True if a worker has reported an error.
    """

    code: int
    lost: int | None
    explained: bool


class Launch:
    """The processes of one run.

    Args:
        hosts: the hosts of the workers.
        workers: the number of workers.
        command: the command of the launcher, for messages.
        port_base: port of the first worker; None for free ports.
    """

    def __init__(self, hosts: Hosts, workers: int, command: str, port_base: int | None = None) -> None:
        self._hosts, self._count, self._port_base = hosts, workers, port_base
        self._command = command
        self._lock = threading.Lock()

    def run(self, words: Sequence[str]) -> End:
        """Start all workers and wait for them.

        Args:
            words: the command line of each worker, after `aip`.
        """
        self._workers: list[WorkerProcess] = []
        self._said: set[str] = set()
        self._signals = 0
        previous: dict[signal.Signals, Any] = {}
        try:
            addresses = tuple(self._hosts.place(self._count, self._port_base))
            previous = {number: signal.signal(number, self._forward) for number in (signal.SIGINT, signal.SIGTERM)}
            common = {SECRET: secrets.token_hex(32), LAUNCHER: self._command}
            readers: list[threading.Thread] = []
            for index in range(self._count):
                own = {"TF_CONFIG": Cluster(addresses, index).tf_config, **common}
                self._workers.append(self._hosts.start(index, words, own))
                readers += self._readers(index)
            end = self._wait()
            for reader in readers:
                reader.join(5)
            return attrs.evolve(end, explained=any(text.startswith(ERROR) for text in self._said))
        finally:
            self._kill()
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._hosts.release()

    def _readers(self, index: int) -> list[threading.Thread]:
        """Start the threads that relay the output of a worker."""
        worker = self._workers[index]
        threads = [
            threading.Thread(target=self._relay, args=(index, source, target), daemon=True)
            for source, target in ((worker.stdout, sys.stdout), (worker.stderr, sys.stderr))
            if source is not None
        ]
        for thread in threads:
            thread.start()
        return threads

    def _relay(self, index: int, source: Iterable[str], target: IO[str]) -> None:
        label = "" if index == 0 else f"[worker {index}] "
        for line in source:
            text = line.removeprefix(label)
            with self._lock:
                # An error that ends one worker ends all, often with the same message: show it once.
                if text.startswith(ERROR) and text in self._said:
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
                if self._signals < 3:
                    worker.send_signal(number)
                else:
                    worker.kill()

    def _wait(self) -> End:
        first, deadline = 0, float("inf")
        while running := [worker for worker in self._workers if worker.poll() is None]:
            failed = self._cause()
            if failed and not first:
                seconds = IDLE_SECONDS if failed == USAGE else self._hosts.patience
                first, deadline = failed, time.monotonic() + seconds
            if time.monotonic() > deadline:
                break
            with suppress(subprocess.TimeoutExpired):
                running[0].wait(0.1)
        lost = self._lost()
        code = first or self._cause()
        self._kill()
        if lost is not None:
            code = self._workers[lost].returncode or code
        return End(128 - code if code < 0 else code, None if self._signals else lost, explained=False)

    def _cause(self) -> int:
        """Return the exit code of the worker that failed: a killed one first, else the first; 0 if none failed.

        Other workers that lost it may have ended since the last check.
        """
        codes = [code for worker in self._workers if (code := worker.poll())]
        return next((code for code in codes if code < 0), codes[0] if codes else 0)

    def _lost(self) -> int | None:
        """Return the index of a worker that was killed or lost with its host."""
        # A worker that hangs after an error ends itself by SIGALRM.
        codes = [worker.poll() or 0 for worker in self._workers]
        return next((index for index, code in enumerate(codes) if code < 0 and code != -signal.SIGALRM), None)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
        for worker in self._workers:
            worker.wait()
