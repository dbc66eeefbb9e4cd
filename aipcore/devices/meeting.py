"""How the workers of a run find each other: at the chief's address, before TensorFlow listens there itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import attrs

from aipcore.devices.authentication import WrongSecretError, check_chief
from aipcore.devices.channel import Channel, Message
from aipcore.devices.cluster import SECRET, Cluster, require_secret, split_address
from aipcore.devices.lifeline import Lifelines
from aipcore.devices.reception import ANSWER_SECONDS, GREETING, KINDS, PAUSE, Reception
from aipcore.devices.workers import Workers
from aipcore.errors import ParamsError, UsageError
from aipcore.params.names import printable

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


def meet(cluster: Cluster, timeout: float, tell: Tell) -> Workers:
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
        return Workers()
    require_secret(cluster)
    if cluster.index:
        messages, lifeline = _connect(cluster, timeout, tell.note)
        chief = f"The chief, worker 0 ({cluster.addresses[0]}),"
        return Workers(cluster, [messages], Lifelines({chief: lifeline}, tell.last_words))
    found = Reception(cluster, tell.note).run(timeout)
    others = range(1, len(cluster.addresses))
    lifelines = {f"Worker {index} ({cluster.addresses[index]})": found[index, "lifeline"] for index in others}
    return Workers(cluster, [found[index, "messages"] for index in others], Lifelines(lifelines, tell.last_words))


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
