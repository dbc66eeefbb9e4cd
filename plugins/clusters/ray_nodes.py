"""The nodes of a Ray cluster as hosts of workers. An actor on each node starts its worker as a separate process."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from aipcore.distributed.cluster import split_address
from aipcore.distributed.launcher import ERROR, USAGE, start_worker
from aipcore.errors import TrainingError, UsageError, sentence
from aipcore.params.names import count

PASSED = ("AIP_", "TF_", "KERAS_", "XLA_", "NCCL_", "COLUMNS", "NO_COLOR")
"""The beginnings of the names of environment variables that workers get from the launcher."""

READ_SECONDS = 5.0
"""Seconds to read the last output of a worker that has ended. A child of it may keep the pipe open."""

CONNECT_SECONDS = 10.0
"""Seconds to connect to the address of a cluster."""

NOTICE_SECONDS = 10.0
"""Seconds without free resources after which the user is told."""

Item = tuple[str, Any]
"""A line of `stdout` or `stderr`, or the exit code as `exit`."""


class Node:
    """An actor that runs one worker on its node. The worker ends with the actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._reserved: socket.socket | None = None

    def address(self, port: int | None) -> str:
        """Return the address of the worker. A free port is reserved until the worker starts."""
        if port is None:
            self._reserved = socket.create_server(("", 0))
            port = self._reserved.getsockname()[1]
        host = ray.util.get_node_ip_address()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def run(self, words: list[str], environment: dict[str, str], folder: str) -> Iterator[Item]:
        """Run a worker, and yield its output and its exit code."""
        if not Path(folder).is_dir():
            host = ray.util.get_node_ip_address()
            yield "stderr", f"{ERROR}{folder} does not exist on {host}. Start aip launch in a folder of all nodes.\n"
            yield "exit", USAGE
            return
        if self._reserved is not None:
            self._reserved.close()
        self._process = start_worker(words, environment, folder=folder)
        items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process, items), daemon=True).start()
        item = items.get()
        while item[0] != "exit":
            yield item
            item = items.get()
        yield item

    def signal(self, number: int) -> None:
        """Send a signal to the worker."""
        if self._process is not None:
            self._process.send_signal(number)


def _read(process: subprocess.Popen[str], items: queue.SimpleQueue[Item]) -> None:
    def read(name: str, stream: IO[str] | None) -> None:
        for line in stream or ():
            items.put((name, line))

    readers = [
        threading.Thread(target=read, args=item, daemon=True)
        for item in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for reader in readers:
        reader.start()
    code = process.wait()
    for reader in readers:
        reader.join(READ_SECONDS)
    items.put(("exit", code))


class RayWorker:
    """A worker on a node. It implements `WorkerProcess`."""

    def __init__(self, node: Any, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self._node = node
        self._lines: dict[str, queue.SimpleQueue[str | None]] = {
            "stdout": queue.SimpleQueue(),
            "stderr": queue.SimpleQueue(),
        }
        self.stdout, self.stderr = (_until_none(lines) for lines in self._lines.values())
        self._ended = threading.Event()
        items = node.run.options(num_returns="streaming").remote(list(words), dict(environment), str(Path.cwd()))
        threading.Thread(target=self._follow, args=[items], daemon=True).start()

    def _follow(self, items: Iterable[Any]) -> None:
        # Without an exit code, the node or its actor is lost.
        code = -int(signal.SIGKILL)
        try:
            for reference in items:
                name, value = ray.get(reference)
                if name == "exit":
                    code = value
                else:
                    self._lines[name].put(value)
        except RayTaskError as error:
            self._lines["stderr"].put(f"{ERROR}{sentence(error.cause or error)}\n")
            code = 1
        except RayError:
            pass
        finally:
            for lines in self._lines.values():
                lines.put(None)
            self.returncode = code
            self._ended.set()

    def poll(self) -> int | None:
        """Return the exit code, or None while the worker runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired("aip", timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to the worker."""
        self._node.signal.remote(sig)

    def kill(self) -> None:
        """Kill the actor, and so the worker."""
        ray.kill(self._node)


def _until_none(lines: queue.SimpleQueue[str | None]) -> Iterator[str]:
    return iter(lines.get, None)


class RayNodes:
    """The nodes of the Ray cluster that `RAY_ADDRESS` names, or of the one on this machine. It implements `Hosts`.

    Args:
        options: see `aip_plugins.clusters.ray`.

    Raises:
        UsageError: the options are wrong, or no cluster runs.
    """

    # Ray reports a node that does not answer after about a minute.
    patience = 90.0

    def __init__(self, options: str) -> None:
        self._resources = _resources(options)
        self._group: PlacementGroup | None = None
        self._nodes: list[Any] = []
        address = os.environ.get("RAY_ADDRESS") or "auto"
        try:
            if address != "auto":
                # Ray itself would try for minutes.
                socket.create_connection(split_address(address), CONNECT_SECONDS).close()
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise UsageError(
                f"--cluster ray cannot connect to a Ray cluster at {address} ({sentence(error)}). Start one with "
                "ray start --head, or set RAY_ADDRESS to host:port."
            ) from error

    def place(self, workers: int, port_base: int | None) -> Sequence[str]:
        """Start an actor for each worker, on different nodes if there are enough.

        Raises:
            UsageError: the GPUs of the cluster cannot be shared evenly.
            TrainingError: an actor cannot be started.
        """
        if "GPU" not in self._resources:
            gpus = int(ray.cluster_resources().get("GPU", 0))
            if gpus % workers:
                raise UsageError(
                    f"{count(gpus, 'GPU')} of the cluster cannot be shared evenly by {count(workers, 'worker')}. "
                    "Change --workers, or write --cluster ray:GPU=1."
                )
            # A restart on fewer nodes must not change the number of GPUs.
            self._resources["GPU"] = gpus // workers
        bundle = {name: number for name, number in self._resources.items() if number}
        self._group = placement_group([bundle] * workers, strategy="SPREAD")
        if not self._group.wait(NOTICE_SECONDS):
            each = ", ".join(f"{name} {number:g}" for name, number in bundle.items())
            print(f"Waiting for {count(workers, 'worker')} with {each} each on the Ray cluster.", file=sys.stderr)  # noqa: T201
            while not self._group.wait(NOTICE_SECONDS):
                continue
        cpus, gpus, others = bundle.pop("CPU", 0), bundle.pop("GPU", 0), bundle
        actor = ray.remote(Node)
        self._nodes = [
            actor.options(
                num_cpus=cpus,
                num_gpus=gpus,
                resources=others,
                max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index),
            ).remote()
            for index in range(workers)
        ]
        ports = [None if port_base is None else port_base + index for index in range(workers)]
        try:
            addresses: list[str] = ray.get(
                [node.address.remote(port) for node, port in zip(self._nodes, ports, strict=True)]
            )
        except RayError as error:
            raise TrainingError(f"Ray cannot start a worker ({sentence(error)}). Check its nodes.") from error
        return addresses

    def start(self, index: int, words: Sequence[str], environment: Mapping[str, str]) -> RayWorker:
        """Start a worker."""
        passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        return RayWorker(self._nodes[index], words, {**passed, **environment})

    def release(self) -> None:
        """End the actors and free their resources."""
        for node in self._nodes:
            ray.kill(node)
        if self._group is not None:
            remove_placement_group(self._group)
        self._nodes, self._group = [], None


def _resources(options: str) -> dict[str, float]:
    """Return the resources of each worker.

    Raises:
        UsageError: the options are wrong.
    """
    found: dict[str, float] = {"CPU": 1.0}
    for part in filter(None, options.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = -1.0
        if not name or not 0 <= found[name] < float("inf"):
            raise UsageError(f"--cluster ray:{options} is not allowed. Write --cluster ray:CPU=8,GPU=1.")
    return found
