"""Workers that meet while strangers use the chief's port: threads of this process, real sockets, no TensorFlow."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from aipcore.distributed.channel import PREFACE, Channel, Message, check_chief
from aipcore.distributed.cluster import Cluster
from aipcore.distributed.launcher import free_ports
from aipcore.distributed.process_group import Lifelines, ProcessGroup
from aipcore.distributed.rendezvous import GREETING, MOST_PENDING, Tell, meet
from aipcore.errors import AipError, DataError, ParamsError, TrainingError, UsageError

SECRET = "kz4-8fn2-w7qm-1c5t"
ESCAPE = "\x1b]0;mine\x07"
SOON = 8.0
"""Seconds; a connection that is waited for alone would take ten."""

Stranger = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the codes with which a lifeline would have ended this process."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def cluster(count: int = 2) -> list[Cluster]:
    """Return workers on loopback."""
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(count))
    return [Cluster(addresses, index, SECRET) for index in range(count)]


def port_of(workers: list[Cluster]) -> int:
    """Return the chief's port."""
    return int(workers[0].addresses[0].rpartition(":")[2])


def work(own: Cluster, timeout: float = 30, notes: list[str] | None = None) -> list[Any]:
    """Meet the other workers and exchange messages."""
    tell = Tell(note=(notes if notes is not None else []).append, last_words=lambda text: None)
    with meet(own, timeout, tell) as workers:
        return workers.exchange("numbers", workers.index)


def connect(port: int) -> socket.socket:
    """Return a connection to the chief as soon as it listens."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            time.sleep(0.01)


@contextmanager
def chief_with(strangers: list[Stranger], workers: list[Cluster]) -> Iterator[Any]:
    """Run a chief in a thread, to which strangers have connected; yield its future result."""
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        chief = pool.submit(work, workers[0])
        for stranger in strangers:
            stranger(stack.enter_context(connect(port_of(workers))))
        yield chief


def framed(header: bytes) -> bytes:
    """Return a header with its length before it."""
    return struct.pack("!Q", len(header)) + header


def sends(data: bytes) -> Stranger:
    """Send bytes, and keep the connection."""
    return lambda connection: connection.sendall(data)


def drips(data: bytes) -> Stranger:
    """Send one byte now and then until the connection is closed."""

    def drip(connection: socket.socket) -> None:
        def run() -> None:
            for number in range(len(data)):
                try:
                    connection.sendall(data[number : number + 1])
                except OSError:
                    return
                time.sleep(0.3)

        threading.Thread(target=run, daemon=True).start()

    return drip


def resets(connection: socket.socket) -> None:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def greeting(name: str, addresses: list[str]) -> bytes:
    """Return the greeting of a worker."""
    return framed(json.dumps([name, [1, "messages", addresses], []]).encode())


STRANGERS: dict[str, list[Stranger]] = {
    "silence": [sends(b"")] * 2,
    "silence of many": [sends(b"")] * (MOST_PENDING + 20),
    "wrong bytes": [sends(b"GET / HTTP/1.1\r\n\r\n")],
    "a header of 64 TiB": [sends(struct.pack("!Q", 2**46) + b"[" * 100)],
    "an array of 64 TiB": [sends(framed(b'["aip workers 1", 1, [["a", "uint8", [%d]]]]' % (2**46)))],
    "deep JSON": [sends(framed(b"[" * 100_000))],
    "a greeting with an escape sequence": [sends(greeting("aip workers 1", [ESCAPE, "b:2"]))],
    "slow bytes": [drips(framed(b" " * 100))],
    "slow bytes of a right beginning": [drips(PREFACE + bytes(100))],
    "a wrong proof": [sends(PREFACE + bytes(64))],
    "a greeting instead of a proof": [sends(PREFACE + greeting(GREETING, [])[:64])],
    "early close": [lambda connection: connection.close(), resets],
    "half a proof": [lambda connection: (connection.sendall(PREFACE + bytes(32)), connection.close())[0]],
}


@pytest.mark.parametrize("strangers", STRANGERS.values(), ids=STRANGERS)
def test_strangers(strangers: list[Stranger]) -> None:
    """Strangers neither end nor delay a run."""
    workers = cluster()
    with chief_with(strangers, workers) as chief:
        began = time.monotonic()
        assert work(workers[1]) == [0, 1]
        assert chief.result() == [0, 1]
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("stranger", [sends(b""), drips(PREFACE + bytes(100))], ids=["silence", "slow bytes"])
def test_deadline(monkeypatch: pytest.MonkeyPatch, stranger: Stranger) -> None:
    """A connection without a proof is closed in time, even if it keeps sending."""
    monkeypatch.setattr("aipcore.distributed.rendezvous.ANSWER_SECONDS", 0.8)
    workers = cluster()
    with ThreadPoolExecutor() as pool:
        chief = pool.submit(work, workers[0])
        with connect(port_of(workers)) as connection:
            began = time.monotonic()
            stranger(connection)
            with suppress(ConnectionError):
                while connection.recv(100):
                    pass
        assert 0.5 < time.monotonic() - began < SOON
        assert work(workers[1]) == [0, 1]
        assert chief.result() == [0, 1]


def test_recorded_proof() -> None:
    """A recorded proof is invalid on another connection."""
    workers = cluster()
    said: list[bytes] = []

    class Recorded(Channel):
        def send_bytes(self, data: bytes) -> None:
            said.append(data)
            super().send_bytes(data)

    def spy(connection: socket.socket) -> None:
        check_chief(Recorded(connection), SECRET)

    def replay(connection: socket.socket) -> None:
        connection.sendall(said[0])
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
        assert len(answer) == len(PREFACE) + 32  # The preface and the nonce, but no proof in return.

    with chief_with([spy, replay], workers) as chief:
        assert work(workers[1]) == [0, 1]
        assert chief.result() == [0, 1]


def test_another_secret() -> None:
    """Chief and worker wait for the right secret, report the possible causes once, and do not show a secret."""
    workers = cluster()
    wrong = Cluster(workers[0].addresses, 1, "yy3-0vb6-h2rd-9x8s")
    notes: tuple[list[str], list[str]] = ([], [])
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(work, own, 1.5, noted) for own, noted in zip((workers[0], wrong), notes, strict=True)]
        errors = [end.exception() for end in ends]
    for error, noted in zip(errors, notes, strict=True):
        assert isinstance(error, UsageError)
        assert len(noted) == 1
        for text in (str(error), *noted):
            assert "AIP_CLUSTER_SECRET" in text
            assert "yy3-0vb6-h2rd-9x8s" not in text
            assert SECRET not in text


def test_no_secret(refused: Any) -> None:
    """Python code without a secret gets an error before a port is opened."""
    (own, _) = cluster()
    with refused(UsageError):
        work(Cluster(own.addresses, 0))


@pytest.mark.parametrize("speaks", [b"", b"\x00\x00\x00\x12\x04\x00\x00\x00\x00\x00", PREFACE + bytes(32)])
def test_somebody_else_at_the_address_of_the_chief(speaks: bytes) -> None:
    """A worker keeps looking for the chief, and sends only a proof to another process at its address."""
    workers = cluster()
    heard: list[bytes] = []
    with ThreadPoolExecutor() as pool:
        with socket.create_server(("127.0.0.1", port_of(workers))) as listener:
            worker = pool.submit(work, workers[1])
            connection, _ = listener.accept()
            with connection:
                connection.sendall(speaks)
                connection.settimeout(0.3)
                try:
                    heard.append(connection.recv(10_000))
                except TimeoutError:
                    heard.append(b"")
                connection.sendall(bytes(32))
        assert pool.submit(work, workers[0]).result() == [0, 1]
        assert worker.result() == [0, 1]
    assert len(heard[0]) in {0, len(PREFACE) + 64}
    assert SECRET.encode() not in heard[0]


@contextmanager
def known_worker(port: int) -> Iterator[Channel]:
    """Yield a connection to the chief that has proved the secret."""
    with connect(port) as connection:
        channel = Channel(connection)
        check_chief(channel, SECRET)
        yield channel


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!Q", 2**46),
        struct.pack("!Q", 2**21),
        framed(b"[" * 100_000),
        framed(b'["greeting", [[], "messages", []], []]'),
        framed(b'["greeting", [true, "messages", []], []]'),
        framed(b'["greeting", [1, "messages", "a:1"], []]'),
        framed(b'["greeting", [1, "messages", []], [["a", "uint8", [1]]]]'),
        framed(b'{"a": 1, "b": 2, "c": 3}'),
    ],
)
def test_nonsense_after_the_proof(data: bytes) -> None:
    """A process with the secret that is not a worker of this aip is disconnected."""
    workers = cluster()
    with ThreadPoolExecutor() as pool:
        chief = pool.submit(work, workers[0])
        with known_worker(port_of(workers)) as channel:
            channel.send_bytes(data)
            with pytest.raises((EOFError, ConnectionError)):
                channel.receive()
        assert work(workers[1]) == [0, 1]
        assert chief.result() == [0, 1]


def test_escape_sequences_of_a_worker() -> None:
    """A cluster with control characters is refused without printing them."""
    workers = cluster()
    with ThreadPoolExecutor() as pool:
        chief = pool.submit(work, workers[0])
        with known_worker(port_of(workers)) as channel:
            channel.send(Message(about=GREETING, value=[1, "messages", [ESCAPE, "b:2"]]))
            assert channel.receive().about == "refused"
        error = chief.exception()
    assert isinstance(error, ParamsError)
    assert "\\x1b]0;mine\\x07" in str(error)
    assert "\x1b" not in str(error)


def test_escape_sequences_of_a_chief() -> None:
    """A worker shows the chief's refusal without control characters."""
    workers = cluster()
    from aipcore.distributed.channel import check_worker

    with ThreadPoolExecutor() as pool, socket.create_server(("127.0.0.1", port_of(workers))) as listener:
        worker = pool.submit(work, workers[1])
        connection, _ = listener.accept()
        with connection:
            channel = Channel(connection)
            check_worker(channel, SECRET)
            channel.receive_small()
            channel.send(Message(about="refused", value=f"no {ESCAPE}"))
            error = worker.exception()
    assert isinstance(error, ParamsError)
    assert str(error) == "no \\x1b]0;mine\\x07"


@pytest.mark.parametrize("about", ["failed", "over"])
def test_escape_sequences_of_last_words(monkeypatch: pytest.MonkeyPatch, exits: list[int], about: str) -> None:
    """Another worker's reason for ending is shown without control characters."""
    monkeypatch.setattr("aipcore.distributed.process_group.GRACE", 0.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    shown: list[str] = []
    with ours, theirs:
        channel, other = pair(ours, theirs)
        watching = Lifelines({"Worker 1": channel}, shown.append)
        other.send(Message(about=about, value=f"{ESCAPE} the end"))
        for thread in watching._threads:
            thread.join(5)
    assert exits == [1]
    (text,) = shown
    assert text.endswith("\\x1b]0;mine\\x07 the end")


def test_a_worker_that_starts_again() -> None:
    """A worker that ended while it waited for others can take its place again."""
    workers = cluster(3)
    with ThreadPoolExecutor() as pool:
        chief = pool.submit(work, workers[0])
        with known_worker(port_of(workers)) as channel:
            channel.send(Message(about=GREETING, value=[1, "messages", list(workers[0].addresses)]))
            assert channel.receive().about == "heard"
        others = [pool.submit(work, own) for own in workers[1:]]
        assert [each.result() for each in (chief, *others)] == [[0, 1, 2]] * 3


def test_two_workers_of_one_index() -> None:
    """The second worker of an index is refused, and the first continues."""
    workers = cluster()
    with ThreadPoolExecutor() as pool:
        chief = pool.submit(work, workers[0])
        with known_worker(port_of(workers)) as channel:
            channel.send(Message(about=GREETING, value=[1, "lifeline", list(workers[0].addresses)]))
            assert channel.receive().about == "heard"
            with known_worker(port_of(workers)) as second:
                second.send(Message(about=GREETING, value=[1, "lifeline", list(workers[0].addresses)]))
                answer = second.receive()
        assert (answer.about, answer.value) == (
            "refused",
            "Worker 1 is already connected. Give each worker a different index.",
        )
        assert work(workers[1]) == [0, 1]
        assert chief.result() == [0, 1]


def pair(ours: socket.socket, theirs: socket.socket) -> tuple[Channel, Channel]:
    """Return channels over sockets that are not TCP and have none of its options."""

    class Local(Channel):
        def __init__(self, connection: socket.socket) -> None:
            self._connection = connection
            self._deadline = None

    return Local(ours), Local(theirs)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i8", ">c16", "?", "u1"])
def test_byte_order(dtype: str) -> None:
    """Arrays have the same values on the other side, for any byte order in memory."""
    sent = np.arange(6).reshape(2, 3).T.astype(dtype)
    ours, theirs = pair(*socket.socketpair())
    ours.send(Message(about="numbers", arrays={"x": sent}))
    received = theirs.receive().arrays["x"]
    ours.close()
    theirs.close()
    assert received.dtype.isnative
    np.testing.assert_array_equal(received, sent)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"{}",
        b"\xff\xfe",
        b'["seed", 1]',
        b'["seed", 1, [["a", "object", [1]]]]',
        b'["seed", 1, [["a", "O", [1]]]]',
        b'["seed", 1, [["a", "finfo", [1]]]]',
        b'["seed", 1, [["a", "float32", [-1]]]]',
        b'["seed", 1, [["a", "float32", [true]]]]',
        b'["seed", 1, [["a", "float32", [1.5]]]]',
        b'["seed", 1, [["a", "float32", 7]]]',
        b'["seed", 1, [[[], "float32", [1]]]]',
        b'["seed", 1, [["a", "float32", [1048576, 1048576, 1048576]]]]',
        b'["seed", 1, [["a", "float32", [0, 4611686018427387904, 4611686018427387904]]]]',
        b'["seed", 1, [["a", "int8", [' + b",".join([b"1"] * 65) + b"]]]]",
        b'["seed", ' + b"9" * 5000 + b", []]",
    ],
)
def test_messages_that_are_none(header: bytes, refused: Any) -> None:
    """Invalid messages end a run with a sentence, and their claimed size is not allocated."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        channel, _ = pair(ours, theirs)
        threading.Thread(target=theirs.sendall, args=[framed(header)], daemon=True).start()
        with refused(TrainingError):
            ProcessGroup(Cluster(("a:1", "b:2"), 1), [channel]).broadcast("seed", None)


def test_arrays_that_are_no_numbers(refused: Any) -> None:
    """Arrays of other dtypes are refused by name at their sender."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        channel, _ = pair(ours, theirs)
        with refused(DataError):
            channel.send(Message(about="x", arrays={"names": np.array(["a"])}))


def test_names_of_another_worker(refused: Any) -> None:
    """Differences are named without control characters."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        channel, other = pair(ours, theirs)
        other.send(Message(about="the start", value={ESCAPE: 1}))
        with refused(AipError) as caught:
            ProcessGroup(Cluster(("a:1", "b:2"), 0), [channel]).require_same({})
        assert "\x1b" not in str(caught.value)
