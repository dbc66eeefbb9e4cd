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
"""The two connections of each worker with the chief."""

ANSWER_SECONDS = 10.0
"""Seconds that the other side of a new connection has to prove the secret and to greet, all together."""

MOST_PENDING = 64
"""Connections that have not greeted yet; one more ends the oldest."""

PAUSE = 0.1
SPEAK_AFTER = 5.0


class Reception:
    """A listener that finds the workers of a run: each connection has a thread and a deadline.

    Args:
        cluster: all workers.
        note: tells the user what the chief waits for.
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
            UsageError: some did not come within `timeout` seconds, or the chief cannot listen.
            ParamsError: they disagree on who the workers are.
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
                raise UsageError(f"A worker has ended before the run began ({error}): start all again.") from error
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
                    f"No sign of {who} within {timeout:g} s: start all workers at about the same time and see that "
                    f"they reach {self._cluster.addresses[0]}, or give more --device.start_timeout."
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
                time.sleep(PAUSE)  # That connection has ended already, or all file descriptors are in use.
                continue
            self._serve(connection)
        self._end_pending()
        if self._failure is not None:
            raise self._failure

    def _missing(self) -> list[int]:
        """Return the workers to wait for; nobody needs to be waited for after a failure."""
        with self._lock:
            return [] if self._failure is not None else sorted({index for index, _ in self._still_wanted()})

    def _still_wanted(self) -> set[tuple[int, str]]:
        for key, channel in list(self._found.items()):
            if channel.is_closed():
                self._found.pop(key).close()
        return self._wanted - self._found.keys()

    def _serve(self, connection: socket.socket) -> None:
        if len(self._pending) >= MOST_PENDING:
            # A worker needs milliseconds: what has been silent for longest is a stranger.
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
            pass  # A stranger, such as a health check, or a worker that has ended.
        finally:
            with self._lock:
                self._pending.pop(channel, None)
            if not kept:
                channel.close()

    def _admit(self, channel: Channel) -> bool:
        """Return whether the other side is a worker of this run that was waited for."""
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
            channel.send(Message(about="refused", value=f"There is a worker {index} already: give each its own index."))
            return False
        channel.send(Message(about="heard"))
        channel.wait_forever()
        with self._lock:
            # Not one that has been ended meanwhile, nor if another process has the same index.
            if channel not in self._pending or (index, kind) not in self._still_wanted():
                return False
            del self._pending[channel]
            self._found[index, kind] = channel
            return True

    def _tell_wrong_secret(self, channel: Channel) -> None:
        text = (
            f"A process at {channel.peer} does not have the secret of this run. If it is a worker, give it the "
            f"{SECRET} of the chief."
        )
        with self._lock:
            known, self._wrong_secret = self._wrong_secret, text
        if not known:
            self._note(text)

    def _end_pending(self, most: int = MOST_PENDING) -> None:
        """End the oldest connections that have not greeted."""
        with self._lock:
            threads = []
            for channel in list(self._pending)[:most]:
                channel.shut()
                threads.append(self._pending.pop(channel))
        for thread in threads:
            thread.join()


def _read_greeting(message: Message) -> tuple[int, str, list[str]]:
    """Return index, kind of connection, and addresses of all workers."""
    value = message.value
    if message.about == GREETING and isinstance(value, list) and len(value) == 3:
        index, kind, addresses = value
        if type(index) is int and kind in KINDS and isinstance(addresses, list):
            return index, kind, [printable(address) for address in addresses]
    raise OSError("what came is not a greeting of a worker")


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


WRONG_SECRET_PAUSE = 1.0


@attrs.frozen
class Tell:
    """Ways to tell the user something.

    Attributes:
        note: what the run waits for.
        last_words: why it ends; nothing comes after it.
    """

    note: Callable[[str], None]
    last_words: Callable[[str], None]


def meet(cluster: Cluster, timeout: float, tell: Tell) -> ProcessGroup:
    """Waits until all workers are there, and connects each with the chief.

    The chief listens at its own address and stops listening before it returns, so that TensorFlow can; the connections
    stay. Both sides prove the secret before anything else is read; what strangers send does not end or delay this.

    Args:
        cluster: all workers.
        timeout: seconds to wait.
        tell: for messages.

    Raises:
        UsageError: some did not come, and which, the chief cannot listen, or there is no secret.
        ParamsError: they disagree on who the workers are.
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
    """The two connections of a worker, made anew until the chief welcomes both."""
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
                    raise OSError("it did not welcome this worker")
                channel.wait_forever()
            return made[0], made[1]
        except ParamsError:
            _close(made)
            raise
        except (OSError, EOFError) as error:
            # Not there yet, not even known by name yet, or still ending a run before this one.
            _close(made)
            wrong_secret = isinstance(error, WrongSecretError)
            if wrong_secret and not hint:
                hint = f" See that {SECRET} has the same value for all workers."
                note(f"The chief at {cluster.addresses[0]} does not accept this worker ({error}).{hint}")
            if time.monotonic() > deadline:
                raise UsageError(
                    f"The chief does not answer at {cluster.addresses[0]} ({error}): start all workers at about the "
                    f"same time, or give more --device.start_timeout.{hint}"
                ) from error
            time.sleep(WRONG_SECRET_PAUSE if wrong_secret else PAUSE)


def _close(channels: list[Channel]) -> None:
    for channel in channels:
        channel.close()


def _open(cluster: Cluster) -> Channel:
    connection = socket.create_connection(split_address(cluster.addresses[0]), timeout=ANSWER_SECONDS)
    channel = Channel(connection)
    if connection.getsockname() == connection.getpeername():
        # Where nobody listens, the system may give this very port to the connection, which then meets itself.
        channel.close()
        raise OSError("nobody listens there")
    return channel


def _greet(channel: Channel, cluster: Cluster, kind: str, deadline: float) -> None:
    channel.finish_within(ANSWER_SECONDS)
    check_chief(channel, cluster.secret)
    channel.send(Message(about=GREETING, value=[cluster.index, kind, list(cluster.addresses)]))
    answer = channel.receive_small()
    if answer.about == "refused":
        raise ParamsError(printable(answer.value))
    # The welcome comes when all are there.
    channel.finish_within(max(ANSWER_SECONDS, deadline - time.monotonic()))
