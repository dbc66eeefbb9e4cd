"""Messages and connections of workers: no exception but AipError, little memory, little time."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from inputs import LONGER, changed, deep, explore, json_values

from aipcore.distributed.channel import NONCE_BYTES, PREFACE, PROOF_BYTES, Channel, Message, check_chief
from aipcore.distributed.cluster import Cluster
from aipcore.distributed.launcher import free_ports
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.rendezvous import GREETING, KINDS, Tell, meet
from aipcore.errors import AipError

TIMES = [pytest.param(1, id="some"), pytest.param(LONGER, id="many", marks=pytest.mark.slow)]
SECRET = "kz4-8fn2-w7qm-1c5t"
SOON = 8.0
"""Less than a connection that is waited for alone would take."""

HEADERS: list[Any] = [["seed", {"a": 1}, []], ["seed", None, [["x", "float32", [3, 1]], ["y", "bfloat16", [5]]]]]
ARRAY_BYTES = 22


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return an almost valid message, with a right or wrong length, whole or truncated, followed by array bytes."""
    header = draw(
        st.one_of(
            st.sampled_from(HEADERS).map(json.dumps).map(str.encode),
            st.sampled_from(HEADERS).flatmap(changed).map(json.dumps).map(str.encode),
            json_values.map(json.dumps).map(str.encode),
            st.binary(max_size=200),
            deep(b"[") | deep(b'{"a":') | deep(b"[[],"),
        )
    )
    wrong = st.sampled_from([0, 1, 2**20, 2**26, 2**26 + 1, 2**46, 2**64 - 1])
    length = draw(wrong) if draw(st.integers(0, 9)) == 0 else len(header)
    data = struct.pack("!Q", length) + header + draw(st.binary(min_size=ARRAY_BYTES, max_size=200))
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


def send(connection: socket.socket, data: bytes) -> None:
    """Send as much as the other side accepts."""
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # The other side has closed the connection.


@pytest.mark.parametrize("times", TIMES)
def test_messages_of_a_run(times: int) -> None:
    """A message is read, or ends the run with a sentence."""
    read: list[bool] = []
    sentences: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def receive(drawn: tuple[bytes, bool]) -> None:
            connection = socket.create_connection(listener.getsockname())
            other, _ = listener.accept()
            with connection, other:
                sender = threading.Thread(target=send, args=[other, drawn[0]])
                sender.start()
                channel = Channel(connection)
                processes = ProcessGroup(Cluster(("a:1", "b:2"), 1), [channel])
                try:
                    if drawn[1]:
                        processes.broadcast("seed", None)
                    else:
                        processes.broadcast_arrays("seed", {})
                    read.append(True)
                except AipError as error:
                    sentences.append(str(error))
                finally:
                    channel.close()
                    sender.join()

        explore(st.tuples(messages(), st.booleans()), receive, 50 * times)
    assert read
    assert all(sentence.isprintable() for sentence in sentences)


@st.composite
def proofs(draw: st.DrawFn) -> bytes:
    """Return the beginning of a proof with mistakes."""
    data = bytearray(PREFACE + draw(st.binary(min_size=NONCE_BYTES + PROOF_BYTES, max_size=NONCE_BYTES + PROOF_BYTES)))
    data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=100))


def greetings(addresses: list[str]) -> st.SearchStrategy[bytes]:
    """Return wrong greetings of a worker with the secret, except a wrong cluster, which ends a run."""
    wrong = st.sampled_from([0, 2, -1, True, 2**70, "1", None]) | json_values
    value = st.tuples(wrong, st.sampled_from(["", *KINDS]), st.just(addresses)) | st.tuples(st.just(1), json_values)
    return value.map(lambda each: json.dumps([GREETING, each, []]).encode()).map(
        lambda header: struct.pack("!Q", len(header)) + header
    )


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("proved", [False, True], ids=["strangers", "with the secret"])
def test_connections_while_workers_meet(times: int, proved: bool) -> None:
    """Any number of connections may come and go, and the run starts."""
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    chief = ("127.0.0.1", int(addresses[0].rpartition(":")[2]))
    tell = Tell(note=lambda text: None, last_words=lambda text: None)

    def work(index: int) -> list[Any]:
        with meet(Cluster(addresses, index, SECRET), 3600, tell) as processes:
            return processes.exchange("numbers", index)

    def disturb(content: bytes) -> None:
        with socket.create_connection(chief, timeout=SOON) as connection:
            if proved:
                check_chief(Channel(connection), SECRET)
            send(connection, content)

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(work, 0)
        while True:
            try:
                socket.create_connection(chief).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        explore(messages() | (greetings(list(addresses)) if proved else proofs()), disturb, 30 * times)
        began = time.monotonic()
        assert work(1) == [0, 1]
        assert waiting.result() == [0, 1]
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("times", TIMES)
def test_messages_arrive(times: int) -> None:
    """The other side receives the sent values and arrays of several dtypes and shapes."""
    types = st.sampled_from(["?", "i1", "u2", "i8", "f2", "f4", "c8"])
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    arrays = st.dictionaries(st.sampled_from(["", "x", "\u2028"]), hnp.arrays(types, shapes), max_size=2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = Channel(socket.create_connection(listener.getsockname()))
        theirs = Channel(listener.accept()[0])

        def pass_on(drawn: tuple[Any, dict[str, Any]]) -> None:
            ours.send(Message(about="x", value=drawn[0], arrays=drawn[1]))
            message = theirs.receive()
            assert repr(message.value) == repr(drawn[0])
            assert message.arrays.keys() == drawn[1].keys()
            for name, array in drawn[1].items():
                np.testing.assert_array_equal(message.arrays[name], array)

        try:
            explore(st.tuples(json_values, arrays), pass_on, 25 * times)
        finally:
            ours.close()
            theirs.close()
