"""The webhook, against a real HTTP server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import pytest

from aipcore.errors import AuthorError
from aipcore.training.checkpoint.format import newest_checkpoint

WEBHOOK = ("--callbacks", "Webhook")


class Breaking(keras.callbacks.Callback):
    """A callback that fails at the end of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise RuntimeError("the disk is gone")


class Stopping(keras.callbacks.Callback):
    """A callback that sends this process a signal at the end of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        import signal

        if epoch == 1:
            signal.raise_signal(signal.SIGTERM)


def test_start_and_end(run: Any, server: Any, tmp_path: Path) -> None:
    """A run posts its start and its end, as a sentence for people and fields for programs."""
    trainer = run(*WEBHOOK, "--callbacks.webhook.url", server.url)
    result = trainer.fit()
    first, last = server.told
    assert first["path"] == "/services/T0/SECRET"
    assert (first["event"], first["epochs"], first["scenario"]) == ("start", 2, "test")
    assert first["text"].startswith("test (out on ")
    assert first["text"].endswith(") started: 2 epochs.")
    assert first["output_dir"] == str(tmp_path / "out")
    assert (last["event"], last["status"], last["epoch"]) == ("end", "finished", 2)
    assert last["best"] == pytest.approx(result.best)
    assert f") finished after 2 epochs, best val_accuracy {result.best:.4g} in epoch" in last["text"]


def test_epochs_and_new_best(run: Any, server: Any) -> None:
    """Every second epoch and each best one are posted; a resumed run remembers the best value."""
    words = ("--callbacks.webhook.url", server.url, "--callbacks.webhook.every_n_epochs", "2")
    words = (*WEBHOOK, *words, "--callbacks.webhook.new_best", "True")
    first = run(*words, "--trainer.epochs", "2")
    history = first.fit().history
    second = run(*words, "--trainer.epochs", "6", checkpoint=newest_checkpoint(first.output_dir / "checkpoint"))
    history = second.fit().history
    best, expected = -1.0, []
    for epoch, logs in enumerate(history, start=1):
        is_best = logs["val_accuracy"] > best
        best = max(best, logs["val_accuracy"])
        if is_best or epoch % 2 == 0:
            expected.append((epoch, is_best))
    told = [(each["epoch"], each["is_best"]) for each in server.told if each["event"] == "epoch"]
    assert told == expected
    assert [each["logs"]["loss"] for each in server.told if each["event"] == "epoch"] == pytest.approx(
        [history[epoch - 1]["loss"] for epoch, _ in expected]
    )
    starts = [each["text"] for each in server.told if each["event"] == "start"]
    assert [text.partition(") ")[2] for text in starts] == ["started: 2 epochs.", "resumed at epoch 3 of 6."]


def test_failure_and_signal(run: Any, server: Any, refused: Any) -> None:
    """An error and a signal are reported as such."""
    trainer = run(*WEBHOOK, "--callbacks.webhook.url", server.url)
    trainer.callbacks["break"] = Breaking()
    with refused(AuthorError):
        trainer.fit()
    last = server.told[-1]
    assert (last["event"], last["status"], last["epoch"]) == ("failure", "failed", 1)
    assert last["error"] == "RuntimeError: the disk is gone"
    trainer = run(*WEBHOOK, "--callbacks.webhook.url", server.url, "--trainer.epochs", "9", output="stopped")
    trainer.callbacks["stop"] = Stopping()
    assert trainer.fit().status == "interrupted"
    assert (server.told[-1]["event"], server.told[-1]["status"]) == ("end", "interrupted")
    assert ") was interrupted after 2 epochs, best val_accuracy" in server.told[-1]["text"]


def test_one_warning_without_the_secret(run: Any, server: Any, caplog: Any, monkeypatch: Any) -> None:
    """A refusing hook causes one warning; neither log nor parameters have the address of the environment."""
    server.status = 403
    monkeypatch.setenv("MY_HOOK", server.url)
    words = ("--callbacks.webhook.url", "env:MY_HOOK", "--callbacks.webhook.every_n_epochs", "1")
    trainer = run(*WEBHOOK, *words)
    with caplog.at_level(logging.INFO, "aipcore.callbacks"):
        assert trainer.fit().status == "finished"
    warned = [record.getMessage() for record in caplog.records if "webhook" in record.getMessage()]
    assert warned == [
        "The webhook http://127.0.0.1 failed (HTTP status 403 Forbidden). The message is dropped, and training "
        "continues."
    ]
    assert len(server.told) == 4
    assert "SECRET" not in str(trainer.about)
    assert "SECRET" not in caplog.text


def test_server_that_does_not_answer(run: Any, server: Any, caplog: Any) -> None:
    """The run finishes with one warning."""
    server.hold = True
    words = ("--callbacks.webhook.url", server.url, "--callbacks.webhook.timeout", "0.5")
    trainer = run(*WEBHOOK, *words, "--callbacks.webhook.every_n_epochs", "1", "--trainer.epochs", "4")
    with caplog.at_level(logging.INFO, "aipcore.callbacks"):
        assert trainer.fit().status == "finished"
    assert caplog.text.count("The webhook http://127.0.0.1 failed (no answer within 0.5 s)") == 1
    assert server.told == []


@pytest.mark.parametrize(
    ("environment", "words", "message"),
    [
        ({}, (), "environment variable AIP_WEBHOOK_URL, which is not set. Set it, or pass --callbacks.webhook.url."),
        ({"HOOK": "file:///etc/x"}, ("env:HOOK",), "HOOK, which is not an http or https URL. Set it, or pass"),
        ({}, ("ftp://host/",), "--callbacks.webhook.url"),
    ],
)
def test_refused_before_training(fork_aip: Any, environment: Any, words: Any, message: str, tmp_path: Path) -> None:
    """A missing URL is refused in one sentence, without a folder or TensorFlow."""
    options = ("--callbacks.webhook.url", *words) if words else ()
    done = fork_aip("train", "tutorial", *WEBHOOK, *options, "--trainer.output_dir", "out", **environment)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "etc/x" not in done.stderr
    assert not (tmp_path / "out").exists()
