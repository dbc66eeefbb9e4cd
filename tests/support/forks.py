"""Runs Python programs in separate processes, without the seconds that importing TensorFlow takes in each of them.

A server per pytest process has imported TensorFlow, Keras and `aipcore`, but has computed nothing. Its only threads
are those of OpenBLAS, which end before a fork. It forks itself for each program. The forked process has a separate
environment, working folder, streams, signals, threads and devices, and ends like any other. With `children=True`, the
programs of `CHILDREN` that it starts itself are forked too.

Use `start` and `run` unless the start itself is tested. Use `subprocess` for tests of imports, of streams that are
closed at the start, and of environment variables that Python, NumPy or TensorFlow read when they are imported
(PYTHONHASHSEED, OPENBLAS_NUM_THREADS, TF_XLA_FLAGS, ...).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import inspect
import json
import os
import runpy
import select
import selectors
import signal
import site
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NoReturn

PIPE: Final = subprocess.PIPE
DEVNULL: Final = subprocess.DEVNULL
STDOUT: Final = subprocess.STDOUT

CHILDREN: Final = (
    "aipcore", "aipcore.testing.reader", "aipcore.training.folds.worker", "aip_plugins.commands.sweep.worker", "pytest",
)  # fmt: skip
"""Modules that are forked as children (`python -m MODULE`). So are scripts, and the workers of `aip launch`."""

_MESSAGE: Final = 2**17
_NAME: Final = b"forks"
"""The name of a process that forks the children of another one."""


class Forked:
    """A forked process, with the part of the interface of `subprocess.Popen` that tests use.

    Attributes:
        pid: The process id.
        returncode: The exit code, or the negative number of the signal that ended it; None while it runs.
        stdout: Its output, if that is a pipe.
        stderr: Its errors, if they are a separate pipe.
    """

    def __init__(self, command: Sequence[str], status: int, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.args = command
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._status: IO[bytes] = open(status, "rb", buffering=0)  # noqa: SIM115 - a descriptor
        self.pid = int(self._read())

    def _read(self) -> bytes:
        text = self._status.read(16)
        if not text:
            raise RuntimeError("The server that forks processes is gone.")
        return text

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._end(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        code = self._end(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _end(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._read())
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read output and errors to their end and wait for the process."""
        end = time.monotonic() + timeout if timeout is not None else None
        read: dict[Any, list[bytes]] = {self.stdout: [], self.stderr: []}
        with selectors.DefaultSelector() as selector:
            for stream in read:
                if stream is not None and not stream.closed:
                    selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                for key, _ in selector.select(left):
                    if data := os.read(key.fd, 2**16):
                        read[key.fileobj].append(data)
                    else:
                        selector.unregister(key.fileobj)
        self.close()
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        output, errors = (
            b"".join(read[stream]).decode().replace("\r\n", "\n") for stream in (self.stdout, self.stderr)
        )
        return output, errors

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Request termination."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close our ends of its streams."""
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.wait()


def start(
    command: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Any = DEVNULL,
    stdout: Any = PIPE,
    stderr: Any = PIPE,
    start_new_session: bool = False,
    children: bool = False,
) -> Forked:
    """Start `python -c CODE WORD ...` or `python SCRIPT WORD ...` in a forked process.

    The arguments are those of `subprocess.Popen`. Output and errors are pipes by default, and their text is UTF-8.
    If `children` is True, the process forks its own children that are named in `CHILDREN`.
    """
    assert command[0] == sys.executable
    opened: list[int] = []
    pipes: list[IO[str] | None] = []

    def target(wanted: Any, mode: int) -> int:
        if wanted == DEVNULL:
            opened.append(os.open(os.devnull, mode))
            return opened[-1]
        if wanted == PIPE:
            reading, writing = os.pipe()
            opened.append(writing)
            pipes.append(open(reading, encoding="utf-8"))  # noqa: PTH123, SIM115 - a descriptor
            return writing
        pipes.append(None)
        return wanted if isinstance(wanted, int) else int(wanted.fileno())

    source = target(stdin, os.O_RDONLY)
    assert stdin != PIPE
    pipes.clear()
    out = target(stdout, os.O_WRONLY)
    err = out if stderr == STDOUT else target(stderr, os.O_WRONLY)
    status, told = os.pipe()
    request = {
        "words": [str(word) for word in command[1:]],
        "python": command[0],
        "cwd": str(cwd or Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "session": start_new_session,
        "children": children,
    }
    try:
        _server().send(json.dumps(request).encode(), [source, out, err, told])
    finally:
        for descriptor in (*opened, told):
            os.close(descriptor)
    return Forked(command, status, *(*pipes, None, None)[:2])


def run(command: Sequence[str], *, timeout: float = 120, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a program like `start` and return the finished process with its output and errors."""
    process = start(command, **arguments)
    try:
        output, errors = process.communicate(timeout)
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def children(pid: int) -> list[int]:
    """Return the child processes of a process (Linux only), without the one that forks them."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for file in files for child in file.read_text().split()]
    return [child for child in found if Path(f"/proc/{child}/comm").read_bytes().strip() != _NAME]


class _Server:
    """The client side of the process that forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "PYTHON"))}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                start_new_session=True, env={**kept, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
            )  # fmt: skip
        atexit.register(self.close)

    def send(self, message: bytes, descriptors: list[int]) -> None:
        """Request a process."""
        assert len(message) < _MESSAGE
        with self._lock:
            socket.send_fds(self._socket, [message], descriptors)

    def close(self) -> None:
        """End the server, which kills the processes that it has started."""
        self._socket.close()
        self._process.wait()


_servers: list[_Server] = []


def _server() -> _Server:
    if not _servers:
        _servers.append(_Server())
    return _servers[0]


def _import_everything() -> None:
    import importlib
    import pkgutil

    import aipcore

    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - like the next lines, about descriptors
        # TensorFlow's notice about missing GPUs ignores the log level.
        saved = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        import keras
        import tensorflow as tf

        os.dup2(saved, 2)
        os.close(saved)
    del keras, tf
    # Takes half of the start of a sweep.
    with contextlib.suppress(ImportError):
        importlib.import_module("optuna")
    for module in pkgutil.walk_packages(aipcore.__path__, "aipcore."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork a process for each request; in the forked ones, return the request."""
    running: dict[int, tuple[int, int]] = {}
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd in running:
                pid, told = running.pop(key.fd)
                selector.unregister(key.fd)
                os.close(key.fd)
                _tell(told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(told)
                continue
            message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 4)
            if not message:
                _end(pid for pid, _ in running.values())
            pid = os.fork()
            if pid == 0:
                for number, descriptor in enumerate(descriptors[:3]):
                    os.dup2(descriptor, number)
                selector.close()
                connection.close()
                for descriptor in (*descriptors, *running, *(told for _, told in running.values())):
                    os.close(descriptor)
                request: dict[str, Any] = json.loads(message)
                return request
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            watched = os.pidfd_open(pid)
            running[watched] = pid, descriptors[3]
            _tell(descriptors[3], pid)
            selector.register(watched, selectors.EVENT_READ)


def _tell(descriptor: int, number: int) -> None:
    try:
        os.write(descriptor, f"{number:<16}".encode())
    except BrokenPipeError:
        # The process that requested it no longer waits for the exit code.
        return


def _end(pids: Any) -> NoReturn:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _fork_children(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a process that will fork the children of this one, and return the request of the current process.

    It has computed nothing, unlike this process later. Its own children become those of this process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        ctypes.CDLL(None).prctl(15, _NAME)  # PR_SET_NAME
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.close(nothing)
        return _serve_parent(theirs)
    theirs.close()
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: this process inherits its orphaned grandchildren.
    original = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    signature = inspect.signature(original)

    def execute(self: Any, *arguments: Any) -> None:
        given = signature.bind(self, *arguments).arguments
        words = [os.fspath(word) for word in given["args"]] if isinstance(given["args"], list) else []
        if not _is_child(words) or given["pass_fds"]:
            original(self, *arguments)
            return
        request = {
            "words": words[1:], "python": words[0], "cwd": os.fspath(given["cwd"] or Path.cwd()),
            "env": dict(os.environ if given["env"] is None else given["env"]), "session": given["start_new_session"],
            "children": "aipcore" in words,
        }  # fmt: skip
        ends = [(given["p2cread"], 0), (given["c2pwrite"], 1), (given["errwrite"], 2)]
        status, told = os.pipe()
        socket.send_fds(ours, [json.dumps(request).encode()], [*(own if end == -1 else end for end, own in ends), told])
        os.close(told)
        with open(status, "rb") as answer:  # noqa: PTH123 - a descriptor
            self.pid = int(answer.read())
        self._child_created = True
        names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in names))

    subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]
    return request


def _is_child(words: Sequence[str]) -> bool:
    from aipcore.distributed.launcher import CHILD

    if not words or not Path(words[0]).name.startswith("python"):
        return False
    match [word for word in words[1:4] if word != "-P"][:2]:
        case ["-m", module]:
            return module in CHILDREN
        case ["-c", code]:
            return code == CHILD
        case [script, *_]:
            return script.endswith(".py")
    return False


def _serve_parent(connection: socket.socket) -> dict[str, Any]:
    """Fork a process for each request of the parent process; in the forked ones, return the request."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 4)
        if not message:
            os._exit(0)
        between = os.fork()
        if between:
            for descriptor in descriptors:
                os.close(descriptor)
            os.waitpid(between, 0)
            continue
        between, pid = os.getpid(), os.fork()
        if pid:
            os.write(descriptors[3], str(pid).encode())
            os._exit(0)
        connection.close()
        for number, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        while os.getppid() == between:
            time.sleep(0.0001)
        ctypes.CDLL(None).prctl(15, b"python")
        request: dict[str, Any] = json.loads(message)
        return request


def _become(request: Mapping[str, Any], path: list[str]) -> None:
    """Turn this process into one with the command, folder and environment of a request, and run it."""
    import numpy as np

    # They are ignored if the tests run in the background of a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    # The module `random` reseeds after a fork.
    np.random.seed()
    words: list[str] = request["words"]
    first = [] if words[0] == "-P" else [""]
    name, *words = words[not first :]
    if name in ("-c", "-m"):
        code, *words = words
    else:
        first, code = [str(Path(name).parent)], Path(name).read_text(encoding="utf-8")
    sys.argv = [name, *words]
    sys.path[:] = [*first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    if request["python"] != sys.executable:
        sys.executable = request["python"]
        # Those of a virtual environment that sees the packages of this one.
        for packages in Path(sys.executable).parents[1].glob("lib/python*/site-packages"):
            site.addsitedir(str(packages))
    # As Python opens them when it starts.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    streams: Any = sys
    streams.__stdin__, streams.__stdout__, streams.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    module = types.ModuleType("__main__")
    if name != "-c":
        module.__file__ = name
    sys.modules["__main__"] = module
    if name == "-m":
        if not hasattr(sys.modules.get(code), "__path__"):
            sys.modules.pop(code, None)
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        exec(compile(code, "<string>" if name == "-c" else name, "exec"), module.__dict__)


def _main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    path = sys.path[1:]
    _import_everything()
    # The garbage collector of the forked processes does not visit, and so copy, what has been imported.
    gc.collect()
    gc.freeze()
    code: object = None
    try:
        request = _serve(connection)
        while request.pop("children", False):
            request = _fork_children(request)
        _become(request, path)
    except SystemExit as end:
        code = end.code
    # Does the same as the end of Python, without the second that clearing TensorFlow takes.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201 - as `sys.exit` does
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _main()
