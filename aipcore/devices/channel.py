"""Messages between two processes over TCP: a JSON value and arrays, nothing that could run as code."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

import attrs
import ml_dtypes
import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

MOST_HEADER_BYTES = 2**26
_LENGTH = struct.Struct("!Q")


@attrs.frozen(kw_only=True, eq=False)
class Message:
    """What is sent.

    Attributes:
        about: what it is for; sender and receiver must mean the same.
        value: anything that JSON can say, numbers that are not finite included.
        arrays: by name.
    """

    about: str
    value: Any = None
    arrays: Arrays = attrs.field(factory=dict)


class Channel:
    """One connection. Errors of the connection are raised as they come, as OSError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(connection)

    def send(self, message: Message) -> None:
        """Sends a message and returns when the system has taken it."""
        arrays = {name: np.asarray(array, order="C") for name, array in message.arrays.items()}
        header = json.dumps(
            [message.about, message.value, [(name, a.dtype.name, a.shape) for name, a in arrays.items()]]
        ).encode()
        self._connection.sendall(_LENGTH.pack(len(header)) + header)
        for array in arrays.values():
            if array.size:
                self._connection.sendall(array.reshape(-1).view(np.uint8).data)

    def receive(self) -> Message:
        """Waits for the next message.

        Raises:
            EOFError: the other side has ended.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > MOST_HEADER_BYTES:
            raise OSError(f"a message begins with {length} bytes of JSON")
        about, value, specs = json.loads(self._exactly(length))
        arrays = {}
        for name, dtype, shape in specs:
            array = np.empty(shape, np.dtype(getattr(ml_dtypes, dtype, dtype)))
            self._fill(memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b""))
            arrays[name] = array
        return Message(about=about, value=value, arrays=arrays)

    def wait_forever(self) -> None:
        """From now on `receive` waits as long as it takes."""
        self._connection.settimeout(None)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def shut(self) -> None:
        """Ends the connection also for a thread that waits in `receive`."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # The other side was faster.

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, view: memoryview) -> None:
        while view.nbytes:
            count = self._connection.recv_into(view)
            if not count:
                raise EOFError("the other side has ended")
            view = view[count:]


def _keep_alive(connection: socket.socket) -> None:
    # A process that ends closes its connections, but a host that loses its power or network does not: the system asks
    # now and then, and gives up after half a minute.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
