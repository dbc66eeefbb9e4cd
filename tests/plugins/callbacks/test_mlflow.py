"""The MLflow tracker, against a real store that MLflow's client reads."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import forks
import keras
import pytest
from aip_plugins.callbacks.remote_params import MLflowParams
from events import events_of

from aipcore.errors import AuthorError, UsageError
from aipcore.training.checkpoint.format import newest_checkpoint

pytest.importorskip("mlflow", reason="needs the extra mlflow")
pytest.importorskip("alembic", reason="needs the extra mlflow")

# MLflow and its database use deprecated features.
pytestmark = pytest.mark.filterwarnings("ignore")

MLFLOW = ("--callbacks", "MLflow")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with its tables, whose creation takes MLflow seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    client(file).search_experiments()
    return file


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: Any) -> Path:
    """Return a new database."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))


def client(file: Path) -> Any:
    """Return MLflow's client."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{file}")


def the_run(file: Path, experiment: str = "test") -> Any:
    """Return the only run of an experiment."""
    found = client(file)
    (run,) = found.search_runs([found.get_experiment_by_name(experiment).experiment_id])
    return run


def points_of(file: Path, run: Any, name: str) -> list[tuple[int, float]]:
    """Return all points of a metric by step."""
    return sorted((each.step, each.value) for each in client(file).get_metric_history(run.info.run_id, name))


def options(file: Path, *words: str) -> tuple[str, ...]:
    """Return the options of a run that logs there."""
    return (*MLFLOW, "--callbacks.mlflow.tracking_uri", f"sqlite:///{file}", *words)


def test_logged_values(run: Any, store: Path, tmp_path: Path) -> None:
    """The store has parameters, tags, every value of every epoch by step, the model, and the status."""
    words = (
        "--trainer.val_every_n", "2", "--trainer.export_final", "True", "--callbacks.mlflow.log_model", "True",
        "--callbacks.mlflow.tags", "team=ocr", "--callbacks.mlflow.system_metrics", "True",
        "--callbacks.mlflow.experiment", "points", "--callbacks.mlflow.run_name", "first", "--trainer.epochs", "3",
    )  # fmt: skip
    trainer = run(*options(store, *words))
    (tmp_path / "out" / "params.json").write_text(json.dumps(trainer.about["params"]))
    history = trainer.fit().history
    found = the_run(store, "points")
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        expected = [(epoch, logs[name]) for epoch, logs in enumerate(history, start=1) if name in logs]
        assert points_of(store, found, name) == expected
    params = found.data.params
    assert params["trainer.epochs"] == "3"
    assert params["trainer.optimizer.name"] == "Adam"
    assert params["trainer.callbacks.MLflow.run_name"] == "first"
    assert found.data.tags["team"] == "ocr"
    assert found.data.tags["output_dir"] == str(tmp_path / "out")
    assert float(found.data.tags["best"]) == max(logs.get("val_accuracy", 0) for logs in history)
    use = points_of(store, found, "system/memory_percent")
    assert [step for step, _ in use] == [1, 2, 3]
    assert all(0 < value <= 100 for _, value in use)
    listed = {each.path for each in client(store).list_artifacts(found.info.run_id)}
    assert listed == {"params.json", "export"}


RATE = "train_steps/samples_per_second"


def test_goes_on_in_the_same_run(run: Any, store: Path, caplog: Any) -> None:
    """After resuming from an earlier epoch, repeated values are there once, also those within epochs."""
    steps = ("--train.batch_size", "16", "--trainer.log_every_steps", "3", "--trainer.val_every_steps", "10")
    first = run(*options(store, "--trainer.epochs", "4", "--checkpoint.keep", "9", *steps))
    first.fit()
    step = sorted((first.output_dir / "checkpoint").iterdir())[2]
    second = run(*options(store, "--trainer.epochs", "5", "--checkpoint.keep", "9", *steps), checkpoint=step)
    history = second.fit().history
    found = the_run(store)
    assert points_of(store, found, "loss") == [(n, logs["loss"]) for n, logs in enumerate(history, start=1)]
    validations = [(each["step"], each["val_loss"]) for each in second.state.validations]
    # Validations at the end of an epoch are among the values of the epoch.
    within = [(step, value) for step, value in validations if step % 6]
    assert points_of(store, found, "validation_steps/loss") == within
    # `restore` alone leaves the points of the first run there.
    logged = dict(events_of(second.output_dir / "tensorboard")["train_steps"]["accuracy"])
    assert points_of(store, found, "train_steps/accuracy") == sorted((n, float(value)) for n, value in logged.items())
    assert sorted(logged) == list(range(3, 31, 3)) == [n for n, _ in points_of(store, found, RATE)]
    assert "MLflow already has other values" not in caplog.text
    assert found.data.params["trainer.epochs"] == "4"
    assert found.data.tags["resumed.trainer.epochs"] == "5"
    assert found.info.status == "FINISHED"


def test_other_values_stand_beside(run: Any, store: Path, caplog: Any) -> None:
    """If changed parameters change repeated values, the newest value counts, and a warning reports it."""
    first = run(*options(store, "--trainer.epochs", "3", "--checkpoint.keep", "9"))
    before = first.fit().history
    step = sorted((first.output_dir / "checkpoint").iterdir())[2]
    words = ("--trainer.epochs", "3", "--learning_rate.lr", "0.1")
    second = run(*options(store, *words), checkpoint=step)
    with caplog.at_level(logging.INFO, "aipcore.callbacks"):
        after = second.fit().history
    said = "MLflow already has other values of epoch 3, from before the run was resumed. It shows both."
    assert caplog.text.count(said) == 1
    found = the_run(store)
    assert {value for step, value in points_of(store, found, "loss") if step == 3} == {
        before[2]["loss"], after[2]["loss"],
    }  # fmt: skip
    assert found.data.metrics["loss"] == after[2]["loss"]


class Ending(keras.callbacks.Callback):
    """A callback that ends a run in its second epoch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1 and self.how == "error":
            raise RuntimeError("no more")
        if epoch == 1 and self.how == "signal":
            signal.raise_signal(signal.SIGTERM)


def test_status(run: Any, store: Path, refused: Any) -> None:
    """A run is killed by a signal, fails when resumed, and then finishes, always as the same run of MLflow."""
    ended = run(*options(store, "--trainer.epochs", "9"))
    ended.callbacks["end"] = Ending("signal")
    assert ended.fit().status == "interrupted"
    assert the_run(store).info.status == "KILLED"
    checkpoints = ended.output_dir / "checkpoint"
    failed = run(*options(store, "--trainer.epochs", "9"), checkpoint=sorted(checkpoints.iterdir())[0])
    failed.callbacks["end"] = Ending("error")
    with refused(AuthorError):
        failed.fit()
    assert the_run(store).info.status == "FAILED"
    assert the_run(store).data.tags["error"] == "RuntimeError: no more"
    run(*options(store, "--trainer.epochs", "3"), checkpoint=newest_checkpoint(checkpoints)).fit()
    assert the_run(store).info.status == "FINISHED"
    assert [step for step, _ in points_of(store, the_run(store), "loss")] == [1, 2, 3]


def test_store_that_fails_for_a_while(run: Any, store: Path, caplog: Any) -> None:
    """There is one warning, training continues, and the missed epochs are sent when the store is back."""
    away = store.with_suffix(".away")

    class Away(keras.callbacks.Callback):
        def __init__(self, tracker: Any) -> None:
            super().__init__()
            self.tracker = tracker

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            while self.tracker._background._busy:
                pass
            if epoch == 0:
                store.rename(away)
                store.mkdir()
            if epoch == 2:
                store.rmdir()
                away.rename(store)

    trainer = run(*options(store, "--trainer.epochs", "4"))
    tracker = trainer.callbacks.pop("MLflow")
    trainer.callbacks |= {"away": Away(tracker), "MLflow": tracker}
    with caplog.at_level(logging.INFO, "aipcore.callbacks"):
        trainer.fit()
    assert [each.levelname for each in caplog.records if each.name == "aipcore.callbacks"] == ["WARNING", "INFO"]
    assert "It is retried after each epoch, and training continues." in caplog.text
    assert [step for step, _ in points_of(store, the_run(store), "loss")] == [1, 2, 3, 4]


KILLED = """
import os, signal, sys
import keras
from aipcore.training.trainer import Trainer

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        # The tracker's run has begun, and no epoch has ended.
        if epoch == 0 and not os.environ.get("GO_ON"):
            callback.callback._background.close(60)
            os.kill(os.getpid(), signal.SIGKILL)

original = Trainer.__init__
class callback: pass

def changed(self, *args, **kwargs):
    original(self, *args, **kwargs)
    callback.callback = self.callbacks["MLflow"]
    self.callbacks["kill"] = Kill()

Trainer.__init__ = changed
from aipcore.cli.main import main
sys.exit(main())
"""


@pytest.mark.slow
def test_killed_in_its_first_epoch(store: Path, tmp_path: Path) -> None:
    """A run that is killed in its first epoch continues the run of MLflow that it had started."""
    words = [
        "train", "tutorial", "--trainer.epochs", "2", "--trainer.output_dir", "out", "--trainer.export_final", "False",
        "--trainer.export_best", "False", *options(store),
    ]  # fmt: skip
    done = forks.run([sys.executable, "-c", KILLED, *words], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    begun = the_run(store, "tutorial")
    assert begun.info.status == "RUNNING"
    environment = {**os.environ, "GO_ON": "1"}
    done = forks.run([sys.executable, "-c", KILLED, "resume", "out", "--trust"], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    ended = the_run(store, "tutorial")
    assert (ended.info.run_id, ended.info.status) == (begun.info.run_id, "FINISHED")
    assert [step for step, _ in points_of(store, ended, "loss")] == [1, 2]


SERVER = ("flask", "flask_cors", "graphene", "gunicorn", "huey")
"""The packages of MLflow's server beyond those of its client. Its default server needs many more than gunicorn."""


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """Run MLflow's server, with its files in a folder, until the context ends."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "files"),
        "--gunicorn-opts", "--log-level warning",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        for _ in range(900):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            assert process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.1)
        else:
            pytest.fail((folder / "server.log").read_text())
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_server(run: Any, store: Path, tmp_path: Path, caplog: Any) -> None:
    """A server gets every value and the model, also those of epochs in which it was down."""
    if missing := [name for name in SERVER if find_spec(name) is None]:
        pytest.skip(f"MLflow's server needs {', '.join(missing)}, of the extra test")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    words = (*MLFLOW, "--callbacks.mlflow.tracking_uri", uri, "--callbacks.mlflow.tags", "team=a")
    with caplog.at_level(logging.INFO, "aipcore.callbacks"):
        down = run(*words, "--callbacks.mlflow.timeout", "0.5", "--trainer.epochs", "2").fit()
    assert down.status == "finished"
    assert "MLflow did not receive all data of this run (2 epochs are missing)." in caplog.text
    for thread in threading.enumerate():
        if thread.name == "aip callback":
            # Its last request would otherwise reach the server.
            thread.join()
    words += ("--trainer.export_final", "True", "--callbacks.mlflow.log_model", "True", "--trainer.epochs", "3")
    with server(tmp_path, port):
        up = run(*words, checkpoint=newest_checkpoint(tmp_path / "out" / "checkpoint"))
        (tmp_path / "out" / "params.json").write_text("{}")
        history = up.fit().history
    found = the_run(store)
    assert (found.info.status, found.data.tags["team"], found.data.params["trainer.epochs"]) == ("FINISHED", "a", "3")
    assert points_of(store, found, "loss") == [(n, logs["loss"]) for n, logs in enumerate(history, start=1)]
    (copy,) = (tmp_path / "files").rglob("saved_model.pb")
    assert copy.read_bytes() == (tmp_path / "out" / "export" / "saved_model.pb").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--callbacks.mlflow.tracking_uri", "mlruns"), "no longer keeps runs in a folder such as mlruns. Use"),
        (("--callbacks.mlflow.tracking_uri", "sqlite:///no/such/x.db"), "Create the folder no/such, or fix its"),
        (
            ("--callbacks.mlflow.tracking_uri", "file:///x/mlruns"),
            "Use --callbacks.mlflow.tracking_uri sqlite:////x/ml",
        ),
        (("--callbacks.mlflow.tracking_uri", "https://me:key@host"), "MLFLOW_TRACKING_PASSWORD"),
        (("--callbacks.mlflow.log_model", "True"), "which is not set. Set it, or leave out log_model."),
    ],
)
def test_refused_before_training(fork_aip: Any, words: Any, message: str, tmp_path: Path) -> None:
    """An invalid option is refused in one sentence before TensorFlow is imported."""
    done = fork_aip("train", "tutorial", *MLFLOW, *words, "--trainer.output_dir", "out")
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "mysql+pymysql://me:secret@host/db",
            "The database mysql+pymysql of --callbacks.mlflow.tracking_uri needs",
        ),
        ("mysql+absent://me:secret@host/db", "mysql+absent of --callbacks.mlflow.tracking_uri is unknown to SQLA"),
        ("postgres://me:secret@host/db", "MLflow does not support addresses that begin with postgres:. Use"),
    ],
)
def test_database_without_its_driver(uri: str, message: str, monkeypatch: Any) -> None:
    """A store that cannot be opened is refused before the run. The sentence does not repeat the password."""
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(UsageError) as caught:
        MLflowParams(tracking_uri=uri).check()
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    MLflowParams(tracking_uri="https://host").check()
    MLflowParams(tracking_uri="databricks").check()
