"""How the workers of a run find each other: at the chief's address, before TensorFlow listens there itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import attrs

from aipcore.devices.channel import Channel, Message
from aipcore.devices.cluster import Cluster, split_address
from aipcore.devices.lifeline import Lifelines
from aipcore.devices.workers import Workers
from aipcore.errors import ParamsError, UsageError

GREETING = "aip workers 1"
KINDS = ("messages", "lifeline")
"""The two connections of each worker with the chief."""

ANSWER_SECONDS = 10.0
"""How long the other side of a new connection may take to say who it is."""

PAUSE = 0.1
SPEAK_AFTER = 5.0


@attrs.frozen
class Tell:
    """Ways to tell the user something.

    Attributes:
        note: what the run waits for.
        last_words: why it ends; nothing comes after it.
    """

    note: Callable[[str], None]
    last_words: Callable[[str], None]


def meet(cluster: Cluster, timeout: float, tell: Tell) -> Workers:
    """Waits until all workers are there, and connects each with the chief.

    The chief listens at its own address and stops listening before it returns, so that TensorFlow can; the connections
    stay.

    Args:
        cluster: all workers.
        timeout: seconds to wait.
        tell: for messages.

    Raises:
        UsageError: some did not come, and which, or the chief cannot listen.
        ParamsError: they disagree on who the workers are.
    """
    if len(cluster.addresses) == 1:
        return Workers()
    if cluster.index:
        messages, lifeline = _connect(cluster, timeout)
        chief = f"The chief, worker 0 ({cluster.addresses[0]}),"
        return Workers(cluster, [messages], Lifelines({chief: lifeline}, tell.last_words))
    found = _Reception(cluster).run(timeout, tell.note)
    others = range(1, len(cluster.addresses))
    lifelines = {f"Worker {index} ({cluster.addresses[index]})": found[index, "lifeline"] for index in others}
    return Workers(cluster, [found[index, "messages"] for index in others], Lifelines(lifelines, tell.last_words))


class _Reception:
    """The chief's side."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._found: dict[tuple[int, str], Channel] = {}
        self._wanted = {(index, kind) for index in range(1, len(cluster.addresses)) for kind in KINDS}

    def run(self, timeout: float, note: Callable[[str], None]) -> dict[tuple[int, str], Channel]:
        started = time.monotonic()
        told = False
        with _listen(self._cluster.addresses[0]) as listener:
            listener.settimeout(PAUSE)
            while missing := sorted({index for index, _ in self._wanted - self._found.keys()}):
                waited = time.monotonic() - started
                names = ", ".join(f"{index} ({self._cluster.addresses[index]})" for index in missing)
                who = f"worker{'s' if len(missing) > 1 else ''} {names}"
                if waited > timeout:
                    raise UsageError(
                        f"No sign of {who} within {timeout:g} s: start all workers at about the same time and see that "
                        f"they reach {self._cluster.addresses[0]}, or give more --device.start_timeout."
                    )
                if waited > SPEAK_AFTER and not told:
                    note(f"Waiting for {who}.")
                    told = True
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                self._receive(connection)
        for channel in self._found.values():
            channel.send(Message(about="welcome"))
        return self._found

    def _receive(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        connection.settimeout(ANSWER_SECONDS)
        try:
            hello = channel.receive()
            index, kind, addresses = hello.value
            known = hello.about == GREETING and (index, kind) in self._wanted - self._found.keys()
        except (OSError, EOFError, ValueError, TypeError):
            channel.close()  # Somebody else knocked, such as a health check.
            return
        if addresses != list(self._cluster.addresses):
            reason = _disagreement(index, addresses, list(self._cluster.addresses))
            channel.send(Message(about="refused", value=reason))
            raise ParamsError(reason)
        if not known:
            channel.send(Message(about="refused", value=f"There is a worker {index} already: give each its own index."))
            channel.close()
            return
        channel.wait_forever()
        channel.send(Message(about="heard"))
        self._found[index, kind] = channel


def _disagreement(index: int, theirs: list[str], ours: list[str]) -> str:
    return (
        f"Worker {index} believes the workers to be {', '.join(theirs)}, the chief {', '.join(ours)}: "
        "give all of them the same cluster."
    )


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        if host in ("localhost", "127.0.0.1"):
            return socket.create_server((host, port))
        # The address may be one that only others know this host by.
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UsageError(
            f"The chief cannot listen at {address} ({error.strerror}): give it a free port of this host."
        ) from error


def _connect(cluster: Cluster, timeout: float) -> tuple[Channel, Channel]:
    """The two connections of a worker, made anew until the chief welcomes both."""
    deadline = time.monotonic() + timeout
    while True:
        made: list[Channel] = []
        try:
            made.extend(_greet(cluster, kind, deadline) for kind in KINDS)
            for channel in made:
                channel.receive()
                channel.wait_forever()
            return made[0], made[1]
        except (OSError, EOFError, ValueError) as error:
            # Not there yet, not even known by name yet, or still ending a run before this one.
            for channel in made:
                channel.close()
            if time.monotonic() > deadline:
                raise UsageError(
                    f"The chief does not answer at {cluster.addresses[0]} ({error}): start all workers at about the "
                    "same time, or give more --device.start_timeout."
                ) from error
            time.sleep(PAUSE)


def _greet(cluster: Cluster, kind: str, deadline: float) -> Channel:
    connection = socket.create_connection(split_address(cluster.addresses[0]), timeout=ANSWER_SECONDS)
    channel = Channel(connection)
    if connection.getsockname() == connection.getpeername():
        # Where nobody listens, the system may give this very port to the connection, which then meets itself.
        channel.close()
        raise OSError("nobody listens there")
    channel.send(Message(about=GREETING, value=[cluster.index, kind, list(cluster.addresses)]))
    answer = channel.receive()
    if answer.about == "refused":
        raise ParamsError(str(answer.value))
    # The welcome comes when all are there.
    connection.settimeout(max(ANSWER_SECONDS, deadline - time.monotonic()))
    return channel
