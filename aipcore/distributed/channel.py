"""Messages between two processes over TCP: authenticated, then JSON and arrays, never code."""

from __future__ import annotations

import hmac
import json
import math
import secrets
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import attrs
import ml_dtypes
import numpy as np
import numpy.typing as npt

from aipcore.errors import DataError

PREFACE = b"aip workers 2\n"
NONCE_BYTES = 32
PROOF_BYTES = 32


class WrongSecretError(OSError):
    """The other side uses a different secret."""


def check_worker(channel: Channel, secret: str) -> None:
    """Check on the chief that the worker knows the secret, and prove the secret to it.

    Raises:
        WrongSecretError: the worker uses a different secret.
        OSError: the other side is not an aip process.
        EOFError: the worker closed the connection.
    """
    own = secrets.token_bytes(NONCE_BYTES)
    channel.send_bytes(PREFACE + own)
    _expect_preface(channel)
    other = channel.receive_bytes(NONCE_BYTES)
    if not hmac.compare_digest(channel.receive_bytes(PROOF_BYTES), _proof(secret, b"worker", own, other)):
        raise WrongSecretError("the secrets differ")
    channel.send_bytes(_proof(secret, b"chief", own, other))


def check_chief(channel: Channel, secret: str) -> None:
    """Prove the secret to the chief, and check that the chief knows it.

    Raises:
        WrongSecretError: the chief rejected the proof or sent a wrong one.
        OSError: the other side is not an aip process.
        EOFError: the chief closed the connection.
    """
    _expect_preface(channel)
    other = channel.receive_bytes(NONCE_BYTES)
    own = secrets.token_bytes(NONCE_BYTES)
    try:
        channel.send_bytes(PREFACE + own + _proof(secret, b"worker", other, own))
        answer = channel.receive_bytes(PROOF_BYTES)
    except (EOFError, ConnectionError) as error:
        raise WrongSecretError("it closed the connection after this worker had sent its proof") from error
    if not hmac.compare_digest(answer, _proof(secret, b"chief", other, own)):
        raise WrongSecretError("the secrets differ")


def _expect_preface(channel: Channel) -> None:
    if channel.receive_bytes(len(PREFACE)) != PREFACE:
        raise OSError("the process there is not a chief of this version of aip")


def _proof(secret: str, side: bytes, chief_nonce: bytes, worker_nonce: bytes) -> bytes:
    key = secret.encode("utf-8", "surrogateescape")
    return hmac.digest(key, PREFACE + side + chief_nonce + worker_nonce, "sha256")


Arrays = Mapping[str, npt.NDArray[Any]]
Spec = tuple[str, np.dtype[Any], tuple[int, ...]]

MOST_HEADER_BYTES = 2**26
MOST_SMALL_BYTES = 2**20
"""Size limit of a message without arrays, as read by `receive_small`."""

MOST_ARRAY_BYTES = 2**40
MOST_DIMENSIONS = 64
_LENGTH = struct.Struct("!Q")

_EXTENSIONS = [each for each in vars(ml_dtypes).values() if isinstance(each, type) and issubclass(each, np.generic)]
_DTYPES: dict[str, np.dtype[Any]] = {
    dtype.name: dtype for dtype in map(np.dtype, [*"?bhilqBHILQefdgFDG", *_EXTENSIONS])
}
"""Data types allowed in arrays. The names come from the other side."""


@attrs.frozen(kw_only=True, eq=False)
class Message:
    """A message between two processes.

    Attributes:
        about: the purpose; sender and receiver must use the same text.
        value: any JSON value, including non-finite numbers.
        arrays: arrays by name.
    """

    about: str
    value: Any = None
    arrays: Arrays = attrs.field(factory=dict)


class Channel:
    """A connection between two processes. Connection errors are raised unchanged, as OSError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline: float | None = None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(connection)

    @property
    def peer(self) -> str:
        """The address of the other side."""
        try:
            return str(self._connection.getpeername()[0])
        except OSError:
            return "an unknown address"

    def send(self, message: Message) -> None:
        """Send a message and return when the operating system has accepted it.

        Raises:
            DataError: an array is not numeric.
        """
        # The name of a dtype does not include the byte order.
        arrays = {
            name: np.asarray(array, np.asarray(array).dtype.newbyteorder("="), order="C")
            for name, array in message.arrays.items()
        }
        specs = [(name, array.dtype.name, array.shape) for name, array in arrays.items()]
        for name, dtype, _ in specs:
            if dtype not in _DTYPES:
                raise DataError(f"{name} has the data type {dtype}, which workers cannot exchange. Use numbers.")
        header = json.dumps([message.about, message.value, specs]).encode()
        self.send_bytes(_LENGTH.pack(len(header)) + header)
        for array in arrays.values():
            if array.size:
                self._connection.sendall(array.reshape(-1).view(np.uint8).data)

    def receive(self) -> Message:
        """Wait for the next message.

        Memory is allocated as bytes arrive, regardless of the size that the message claims.

        Raises:
            EOFError: the other side closed the connection.
            OSError: the connection failed, or the bytes are not a message.
        """
        about, value, specs = self._receive_header(MOST_HEADER_BYTES)
        arrays = {}
        for name, dtype, shape in specs:
            try:
                array = np.empty(shape, dtype)
            except MemoryError as error:
                raise OSError(f"an array of {math.prod(shape)} numbers does not fit into memory") from error
            self._fill(memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b""))
            arrays[name] = array
        return Message(about=about, value=value, arrays=arrays)

    def receive_small(self) -> Message:
        """Wait for the next message, which has no arrays and at most `MOST_SMALL_BYTES`.

        Raises:
            EOFError: the other side closed the connection.
            OSError: the connection failed, or the bytes are not such a message.
        """
        about, value, specs = self._receive_header(MOST_SMALL_BYTES)
        if specs:
            raise OSError("a message has arrays where none are expected")
        return Message(about=about, value=value)

    def send_bytes(self, data: bytes) -> None:
        """Send raw bytes."""
        if self._deadline is not None:
            self._apply_deadline(self._deadline)
        self._connection.sendall(data)

    def receive_bytes(self, count: int) -> bytes:
        """Wait for `count` bytes.

        Raises:
            EOFError: the other side closed the connection.
        """
        data = bytearray(count)
        self._fill(memoryview(data))
        return bytes(data)

    def finish_within(self, seconds: float) -> None:
        """Set one deadline for all later operations together. Waiting beyond it raises TimeoutError."""
        self._deadline = time.monotonic() + seconds

    def wait_forever(self) -> None:
        """Remove the deadline."""
        self._deadline = None
        self._connection.settimeout(None)

    def is_closed(self) -> bool:
        """Return True if the other side has closed the connection. No thread may be waiting on the channel."""
        self._connection.setblocking(False)
        try:
            return not self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._connection.setblocking(True)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def shut(self) -> None:
        """Close the connection, and wake a thread that waits in `receive`."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # The other side closed it first.

    def _receive_header(self, limit: int) -> tuple[str, Any, list[Spec]]:
        (length,) = _LENGTH.unpack(self.receive_bytes(_LENGTH.size))
        if length > limit:
            raise OSError(f"a message has {length} bytes of JSON, but at most {limit} are allowed")
        try:
            return _parse(self.receive_bytes(length))
        except (ValueError, TypeError, RecursionError) as error:
            raise OSError("the received data is not a message of aip") from error

    def _apply_deadline(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)

    def _fill(self, view: memoryview) -> None:
        while view.nbytes:
            if self._deadline is not None:
                self._apply_deadline(self._deadline)
            count = self._connection.recv_into(view)
            if not count:
                raise EOFError("the other side closed the connection")
            view = view[count:]


def _parse(header: bytes) -> tuple[str, Any, list[Spec]]:
    about, value, specs = json.loads(header)
    if not isinstance(about, str) or not isinstance(specs, list):
        raise TypeError
    parsed = [(name, _dtype(dtype), tuple(shape)) for name, dtype, shape in specs]
    size = 0
    for name, dtype, shape in parsed:
        whole = all(type(length) is int and length >= 0 for length in shape)
        if not isinstance(name, str) or not whole or len(shape) > MOST_DIMENSIONS:
            raise TypeError
        size += dtype.itemsize * math.prod([length or 1 for length in shape])
        if size > MOST_ARRAY_BYTES:
            raise ValueError
    return about, value, parsed


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or name not in _DTYPES:
        raise TypeError
    return _DTYPES[name]


def _keep_alive(connection: socket.socket) -> None:
    # A process that ends closes its connections. A host that loses power or network does not: the system probes the
    # connection and gives up after half a minute.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
