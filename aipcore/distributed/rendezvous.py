"""The rendezvous of a run's processes at the chief's address, before TensorFlow listens there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import attrs

from aipcore.distributed.channel import Channel, Message, WrongSecretError, check_chief, check_worker
from aipcore.distributed.cluster import SECRET, Cluster, require_secret, split_address
from aipcore.distributed.process_group import Lifelines, ProcessGroup
from aipcore.errors import ParamsError, UsageError
from aipcore.params.names import printable

GREETING = "greeting"
KINDS = ("messages", "lifeline")
"""The two connections of each worker to the chief."""

ANSWER_SECONDS = 10.0
"""Seconds for a new connection to prove the secret and send its greeting, in total."""

MOST_PENDING = 64
"""Maximum number of connections without a greeting. Another connection closes the oldest."""

PAUSE = 0.1
SPEAK_AFTER = 5.0


class Reception:
    """A listener that accepts the workers of a run. Each connection has its own thread and deadline.

    Args:
        cluster: all workers.
        note: callback that shows the missing workers to the user.
    """

    def __init__(self, cluster: Cluster, note: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._note = note
        self._lock = threading.Lock()
        self._found: dict[tuple[int, str], Channel] = {}
        self._wanted = {(index, kind) for index in range(1, len(cluster.addresses)) for kind in KINDS}
        self._pending: dict[Channel, threading.Thread] = {}
        self._failure: ParamsError | None = None
        self._wrong_secret = ""

    def run(self, timeout: float) -> dict[tuple[int, str], Channel]:
        """Return the connections of all workers, by index and kind.

        Raises:
            UsageError: a worker did not connect within `timeout` seconds, or the chief cannot listen.
            ParamsError: the workers have different lists of addresses.
        """
        try:
            with _listen(self._cluster.addresses[0]) as listener:
                self._wait(listener, timeout)
            for channel in self._found.values():
                channel.send(Message(about="welcome"))
        except BaseException as error:
            self._end_pending()
            for channel in self._found.values():
                channel.close()
            if isinstance(error, OSError):
                raise UsageError(f"A worker ended before the run began ({error}). Start all workers again.") from error
            raise
        return self._found

    def _wait(self, listener: socket.socket, timeout: float) -> None:
        started = time.monotonic()
        told = False
        listener.settimeout(PAUSE)
        while missing := self._missing():
            waited = time.monotonic() - started
            names = ", ".join(f"{index} ({self._cluster.addresses[index]})" for index in missing)
            who = f"worker{'s' if len(missing) > 1 else ''} {names}"
            if waited > timeout:
                raise UsageError(
                    f"No connection from {who} within {timeout:g} s. Start all workers at about the same time, check "
                    f"that they can reach {self._cluster.addresses[0]}, or increase --device.start_timeout."
                    + (f" {self._wrong_secret}" if self._wrong_secret else "")
                )
            if waited > SPEAK_AFTER and not told:
                self._note(f"Waiting for {who}.")
                told = True
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                time.sleep(PAUSE)  # The connection is closed already, or all file descriptors are in use.
                continue
            self._serve(connection)
        self._end_pending()
        if self._failure is not None:
            raise self._failure

    def _missing(self) -> list[int]:
        """Return the indices of the missing workers; empty after a failure, which ends the wait."""
        with self._lock:
            return [] if self._failure is not None else sorted({index for index, _ in self._still_wanted()})

    def _still_wanted(self) -> set[tuple[int, str]]:
        for key, channel in list(self._found.items()):
            if channel.is_closed():
                self._found.pop(key).close()
        return self._wanted - self._found.keys()

    def _serve(self, connection: socket.socket) -> None:
        if len(self._pending) >= MOST_PENDING:
            # A worker greets within milliseconds, so the connection that has been silent longest is not a worker.
            self._end_pending(1)
        try:
            channel = Channel(connection)
        except OSError:
            connection.close()
            return
        channel.finish_within(ANSWER_SECONDS)
        thread = threading.Thread(target=self._answer, args=[channel], name="aip-reception", daemon=True)
        with self._lock:
            self._pending[channel] = thread
        thread.start()

    def _answer(self, channel: Channel) -> None:
        kept = False
        try:
            kept = self._admit(channel)
        except WrongSecretError:
            self._tell_wrong_secret(channel)
        except (OSError, EOFError):
            pass  # Not a worker (a health check, for instance), or a worker that has ended.
        finally:
            with self._lock:
                self._pending.pop(channel, None)
            if not kept:
                channel.close()

    def _admit(self, channel: Channel) -> bool:
        """Return True if the other side is an expected worker of this run."""
        check_worker(channel, self._cluster.secret)
        index, kind, addresses = _read_greeting(channel.receive_small())
        if addresses != list(self._cluster.addresses):
            reason = _disagreement(index, addresses, list(self._cluster.addresses))
            channel.send(Message(about="refused", value=reason))
            self._failure = ParamsError(reason)
            return False
        with self._lock:
            wanted = (index, kind) in self._still_wanted()
        if not wanted:
            channel.send(
                Message(
                    about="refused", value=f"Worker {index} is already connected. Give each worker a different index."
                )
            )
            return False
        channel.send(Message(about="heard"))
        channel.wait_forever()
        with self._lock:
            # The connection may have been closed meanwhile, or another process may have taken the same index.
            if channel not in self._pending or (index, kind) not in self._still_wanted():
                return False
            del self._pending[channel]
            self._found[index, kind] = channel
            return True

    def _tell_wrong_secret(self, channel: Channel) -> None:
        text = (
            f"A process at {channel.peer} does not have the secret of this run. If it is a worker, set its {SECRET} "
            "to the value of the chief."
        )
        with self._lock:
            known, self._wrong_secret = self._wrong_secret, text
        if not known:
            self._note(text)

    def _end_pending(self, most: int = MOST_PENDING) -> None:
        """Close the oldest connections without a greeting."""
        with self._lock:
            threads = []
            for channel in list(self._pending)[:most]:
                channel.shut()
                threads.append(self._pending.pop(channel))
        for thread in threads:
            thread.join()


def _read_greeting(message: Message) -> tuple[int, str, list[str]]:
    """Return the index, the kind of connection, and the addresses of all workers."""
    value = message.value
    if message.about == GREETING and isinstance(value, list) and len(value) == 3:
        index, kind, addresses = value
        if type(index) is int and kind in KINDS and isinstance(addresses, list):
            return index, kind, [printable(address) for address in addresses]
    raise OSError("the received data is not the greeting of a worker")


def _disagreement(index: int, theirs: list[str], ours: list[str]) -> str:
    return (
        f"Worker {index} has the workers {', '.join(theirs)}, but the chief has {', '.join(ours)}. "
        "Give all workers the same cluster."
    )


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        if host in ("localhost", "127.0.0.1"):
            return socket.create_server((host, port))
        # The address may be a name that only other hosts know this host by.
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UsageError(
            f"The chief cannot listen at {address} ({error.strerror}). Use a free port of this host."
        ) from error


WRONG_SECRET_PAUSE = 1.0


@attrs.frozen
class Tell:
    """Callbacks that show messages to the user.

    Attributes:
        note: shows what the run is waiting for.
        last_words: shows why the run ends; no output follows.
    """

    note: Callable[[str], None]
    last_words: Callable[[str], None]


def meet(cluster: Cluster, timeout: float, tell: Tell) -> ProcessGroup:
    """Wait for all workers, and connect each to the chief.

    The chief listens at its own address and stops listening before this returns, so that TensorFlow can use the
    address. The connections stay open. Both sides prove the secret before anything else is read. Data from other
    processes does not end or delay the rendezvous.

    Args:
        cluster: all workers.
        timeout: seconds to wait.
        tell: callbacks for messages.

    Raises:
        UsageError: a worker did not connect, the chief cannot listen, or the secret is missing.
        ParamsError: the workers have different lists of addresses.
    """
    if len(cluster.addresses) == 1:
        return ProcessGroup()
    require_secret(cluster)
    if cluster.index:
        messages, lifeline = _connect(cluster, timeout, tell.note)
        chief = f"The chief, worker 0 ({cluster.addresses[0]}),"
        return ProcessGroup(cluster, [messages], Lifelines({chief: lifeline}, tell.last_words))
    found = Reception(cluster, tell.note).run(timeout)
    others = range(1, len(cluster.addresses))
    lifelines = {f"Worker {index} ({cluster.addresses[index]})": found[index, "lifeline"] for index in others}
    return ProcessGroup(cluster, [found[index, "messages"] for index in others], Lifelines(lifelines, tell.last_words))


def _connect(cluster: Cluster, timeout: float, note: Callable[[str], None]) -> tuple[Channel, Channel]:
    """Return the two connections of a worker; retry until the chief accepts both."""
    deadline = time.monotonic() + timeout
    hint = ""
    while True:
        made: list[Channel] = []
        try:
            for kind in KINDS:
                made.append(_open(cluster))
                _greet(made[-1], cluster, kind, deadline)
            for channel in made:
                if channel.receive_small().about != "welcome":
                    raise OSError("it did not accept this worker")
                channel.wait_forever()
            return made[0], made[1]
        except ParamsError:
            _close(made)
            raise
        except (OSError, EOFError) as error:
            # The chief is not running yet, its name does not resolve yet, or it is still ending an earlier run.
            _close(made)
            wrong_secret = isinstance(error, WrongSecretError)
            if wrong_secret and not hint:
                hint = f" Check that {SECRET} has the same value for all workers."
                note(f"The chief at {cluster.addresses[0]} does not accept this worker ({error}).{hint}")
            if time.monotonic() > deadline:
                raise UsageError(
                    f"The chief does not answer at {cluster.addresses[0]} ({error}). Start all workers at about the "
                    f"same time, or increase --device.start_timeout.{hint}"
                ) from error
            time.sleep(WRONG_SECRET_PAUSE if wrong_secret else PAUSE)


def _close(channels: list[Channel]) -> None:
    for channel in channels:
        channel.close()


def _open(cluster: Cluster) -> Channel:
    connection = socket.create_connection(split_address(cluster.addresses[0]), timeout=ANSWER_SECONDS)
    channel = Channel(connection)
    if connection.getsockname() == connection.getpeername():
        # If nothing listens, the system may give this port to the connection itself, which then connects to itself.
        channel.close()
        raise OSError("no process listens there")
    return channel


def _greet(channel: Channel, cluster: Cluster, kind: str, deadline: float) -> None:
    channel.finish_within(ANSWER_SECONDS)
    check_chief(channel, cluster.secret)
    channel.send(Message(about=GREETING, value=[cluster.index, kind, list(cluster.addresses)]))
    answer = channel.receive_small()
    if answer.about == "refused":
        raise ParamsError(printable(answer.value))
    # The chief accepts when all workers are connected.
    channel.finish_within(max(ANSWER_SECONDS, deadline - time.monotonic()))
