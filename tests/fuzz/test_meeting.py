"""Random messages between workers: no exception but AipError, little memory, little time."""

from __future__ import annotations

import json
import random
import resource
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from aipcore.devices.authentication import NONCE_BYTES, PREFACE, PROOF_BYTES, check_chief
from aipcore.devices.channel import Channel, Message
from aipcore.devices.cluster import Cluster
from aipcore.devices.launcher import free_ports
from aipcore.devices.meeting import Tell, meet
from aipcore.devices.reception import GREETING, KINDS
from aipcore.devices.workers import Workers
from aipcore.errors import AipError

EXAMPLES = [pytest.param(300, id="some"), pytest.param(20_000, id="many", marks=pytest.mark.slow)]
SECRET = "kz4-8fn2-w7qm-1c5t"
MOST_SECONDS = 2.0
"""Of this process, since others may use the machine."""

SOON = 8.0
"""Less than a connection that is waited for alone would take."""

MOST_KIB = 256 * 1024
WORDS = ("", "seed", "greeting", "welcome", "float32", "bfloat16", "object", "finfo", "\x1b]0;x\x07", "\ud800", "é")
NUMBERS = (0, 1, -1, 7, 2**31, 2**46, 2**63, 10**30, 0.5, float("nan"), float("inf"), True, None)


def any_value(random: random.Random, depth: int = 0) -> Any:
    """A value that JSON can say."""
    kind = random.randrange(6 if depth < 4 else 3)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice(WORDS)
    if kind == 2:
        return random.choice(WORDS) * random.randrange(2000)
    if kind == 3:
        return {random.choice(WORDS): any_value(random, depth + 1) for _ in range(random.randrange(4))}
    return [any_value(random, depth + 1) for _ in range(random.randrange(5))]


def any_header(random: random.Random) -> bytes:
    """A header that is almost right, any JSON, deep JSON, or anything."""
    kind = random.randrange(6)
    if kind == 0:
        depth = random.randrange(200_000)
        return random.choice((b"[", b'{"a":', b"[[],")) * depth
    if kind == 1:
        return random.randbytes(random.randrange(200))
    if kind == 2:
        return json.dumps(any_value(random)).encode()
    shape = [random.choice((0, 1, 3, 5)) if random.random() < 0.9 else any_value(random) for _ in range(3)]
    spec = [random.choice(WORDS), random.choice(WORDS[4:6]), shape]
    specs = [spec if random.random() < 0.9 else any_value(random) for _ in range(random.randrange(3))]
    about = "seed" if random.random() < 0.8 else any_value(random)
    header = [about, any_value(random), specs if random.random() < 0.9 else any_value(random)]
    return json.dumps(header[: random.choice((3, 3, 3, 2))]).encode()


def any_bytes(random: random.Random) -> bytes:
    """A message with a right or wrong length, whole or not, with bytes of arrays after it."""
    header = any_header(random)
    length = len(header) if random.random() < 0.9 else random.choice((0, 1, 2**20, 2**26, 2**26 + 1, 2**46, 2**64 - 1))
    data = struct.pack("!Q", length) + header + random.randbytes(random.randrange(600))
    return data if random.random() < 0.9 else data[: random.randrange(len(data))]


def memory() -> int:
    """The most that this process ever had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def send(connection: socket.socket, data: bytes) -> None:
    """Sends what the other side takes, and no more."""
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # The other side has had enough.


@pytest.mark.parametrize("examples", EXAMPLES)
def test_messages_of_a_run(examples: int) -> None:
    """Whatever comes is read, or ends the run with a sentence."""
    before, read = memory(), 0
    sentences: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for seed in range(examples):
            drawn = random.Random(seed)
            connection = socket.create_connection(listener.getsockname())
            other, _ = listener.accept()
            with connection, other:
                began = time.process_time()
                sender = threading.Thread(target=send, args=[other, any_bytes(drawn)])
                sender.start()
                channel = Channel(connection)
                workers = Workers(Cluster(("a:1", "b:2"), 1), [channel])
                try:
                    if drawn.random() < 0.5:
                        workers.broadcast("seed", None)
                    else:
                        workers.broadcast_arrays("seed", {})
                    read += 1
                except AipError as error:
                    sentences.append(str(error))
                channel.close()
                sender.join()
                assert time.process_time() - began < MOST_SECONDS, seed
    assert memory() - before < MOST_KIB
    assert 0 < read < examples
    assert all(sentence.isprintable() for sentence in sentences)


def any_stranger(random: random.Random) -> bytes:
    """The beginning of a proof with mistakes, or anything."""
    kind = random.randrange(4)
    if kind == 0:
        return any_bytes(random)
    if kind == 1:
        return random.randbytes(random.randrange(300))
    data = bytearray(PREFACE + random.randbytes(NONCE_BYTES + PROOF_BYTES))
    if kind == 2:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data[: random.randrange(len(data) + 1)]) + random.randbytes(random.choice((0, 0, 100)))


def any_greeting(random: random.Random, addresses: list[str]) -> bytes:
    """What a worker with the secret might say wrongly, but for a wrong cluster, which ends a run."""
    if random.random() < 0.5:
        return any_bytes(random)
    value = [random.choice((0, 2, -1, True, 2**70, "1", None)), random.choice(("", *KINDS)), addresses]
    value[random.randrange(2)] = any_value(random)
    return json.dumps([GREETING, value[: random.choice((3, 3, 2))], []]).encode()


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("proved", [False, True], ids=["strangers", "with the secret"])
def test_connections_while_workers_meet(examples: int, proved: bool) -> None:
    """They come and go in any number, and the run begins."""
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    tell = Tell(note=lambda text: None, last_words=lambda text: None)
    before = memory()

    def work(index: int) -> list[Any]:
        with meet(Cluster(addresses, index, SECRET), 600, tell) as workers:
            return workers.exchange("numbers", index)

    def disturb(seed: int) -> None:
        drawn = random.Random(seed)
        with socket.create_connection(("127.0.0.1", int(addresses[0].rpartition(":")[2]))) as connection:
            if proved:
                check_chief(Channel(connection), SECRET)
            send(connection, any_greeting(drawn, list(addresses)) if proved else any_stranger(drawn))
            if drawn.random() < 0.5:
                connection.settimeout(SOON)
                try:
                    while connection.recv(1000):
                        pass
                except ConnectionError:
                    return

    with ThreadPoolExecutor(max_workers=8) as pool:
        chief = pool.submit(work, 0)
        wait_for(addresses[0])
        for done in [pool.submit(disturb, seed) for seed in range(examples)]:
            done.result()
        began = time.monotonic()
        assert work(1) == [0, 1]
        assert chief.result() == [0, 1]
    assert time.monotonic() - began < SOON
    assert memory() - before < MOST_KIB


def wait_for(address: str) -> None:
    """Waits until somebody listens."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_messages_arrive(examples: int) -> None:
    """What one side sends, the other has: values, and arrays of several types and shapes."""
    types = ("int8", "uint16", "int64")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = Channel(socket.create_connection(listener.getsockname()))
        theirs = Channel(listener.accept()[0])
        for seed in range(examples):
            drawn = random.Random(seed)
            value = any_value(drawn)
            arrays = {
                str(number): np.frombuffer(drawn.randbytes(8 * 120), np.uint8)
                .view(drawn.choice(types))
                .reshape(drawn.choice(((-1,), (2, -1), (4, 5, -1))))[drawn.randrange(2) :]
                for number in range(drawn.randrange(3))
            }
            ours.send(Message(about="x", value=value, arrays=arrays))
            message = theirs.receive()
            assert repr(message.value) == repr(value), seed
            assert {name: array.tolist() for name, array in message.arrays.items()} == {
                name: array.tolist() for name, array in arrays.items()
            }
        ours.close()
        theirs.close()
