"""Mutual proof of the shared secret at the start of a connection between the processes of a run.

The chief sends a nonce, the other process its own nonce and an HMAC over both, the chief its HMAC over both. All of it
has a fixed size, and nothing else is read before. The secret is not sent. What follows is not encrypted.
"""

from __future__ import annotations

import hmac
import secrets

from aipcore.devices.channel import Channel

PREFACE = b"aip workers 2\n"
NONCE_BYTES = 32
PROOF_BYTES = 32


class WrongSecretError(OSError):
    """The other side seems to have another secret."""


def check_worker(channel: Channel, secret: str) -> None:
    """Check on the chief that the other side has the secret, and prove it to that.

    Raises:
        WrongSecretError: it has another one.
        OSError: it is no process of aip.
        EOFError: it has ended.
    """
    own = secrets.token_bytes(NONCE_BYTES)
    channel.send_bytes(PREFACE + own)
    _expect_preface(channel)
    other = channel.receive_bytes(NONCE_BYTES)
    if not hmac.compare_digest(channel.receive_bytes(PROOF_BYTES), _proof(secret, b"worker", own, other)):
        raise WrongSecretError("the secrets differ")
    channel.send_bytes(_proof(secret, b"chief", own, other))


def check_chief(channel: Channel, secret: str) -> None:
    """Prove the secret to the chief, and check that it has it too.

    Raises:
        WrongSecretError: the chief did not accept the proof, or gave a wrong one.
        OSError: the other side is no process of aip.
        EOFError: it has ended.
    """
    _expect_preface(channel)
    other = channel.receive_bytes(NONCE_BYTES)
    own = secrets.token_bytes(NONCE_BYTES)
    try:
        channel.send_bytes(PREFACE + own + _proof(secret, b"worker", other, own))
        answer = channel.receive_bytes(PROOF_BYTES)
    except (EOFError, ConnectionError) as error:
        raise WrongSecretError("it ended the connection when this worker had sent its proof") from error
    if not hmac.compare_digest(answer, _proof(secret, b"chief", other, own)):
        raise WrongSecretError("the secrets differ")


def _expect_preface(channel: Channel) -> None:
    if channel.receive_bytes(len(PREFACE)) != PREFACE:
        raise OSError("what listens there is not a chief of this version of aip")


def _proof(secret: str, side: bytes, chief_nonce: bytes, worker_nonce: bytes) -> bytes:
    key = secret.encode("utf-8", "surrogateescape")
    return hmac.digest(key, PREFACE + side + chief_nonce + worker_nonce, "sha256")
