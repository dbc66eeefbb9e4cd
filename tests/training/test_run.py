"""A whole run of the command, in separate processes: its output, its files, and its reaction to signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]


def start(folder: Path, *words: str) -> forks.Forked:
    """Start `aip` in a folder."""
    return forks.start([*AIP, *words], cwd=folder, start_new_session=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Run once; return the parent folder, the output and the errors."""
    folder = tmp_path_factory.mktemp("run")
    words = ["train", "tutorial", "--optimizer", "adabelief", "--trainer.epochs", "3", "--trainer.output_dir", "out"]
    words += ["--trainer.lav_every_n", "2", "--export.formats", "SavedModel", "Keras", "--json-log", "log.jsonl"]
    process = start(folder, *words, "--callbacks", "CSVLog")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return folder, output, errors


def test_output(run: tuple[Path, str, str]) -> None:
    """The output is a plan, a line per epoch and a summary, in plain text without a terminal; stderr is empty."""
    _, output, errors = run
    assert errors == ""
    assert "\x1b" not in output
    for text in ("1,442 training samples in 91 batches of 16; 355 validation samples", "AdaBelief", "epoch 1/3",
                 "epoch 3/3", "Trained 3 epochs", "out/best", "tensorboard --logdir", "Most confused"):  # fmt: skip
        assert text in output


def test_log_file(run: tuple[Path, str, str]) -> None:
    """train.log has the plan and the epochs."""
    text = (run[0] / "out" / "train.log").read_text()
    assert "optimizer: AdaBelief" in text
    assert "epoch 3/3" in text


def test_json_log(run: tuple[Path, str, str]) -> None:
    """The log has one event per line; LAV ran in the first and the last epoch."""
    events = [json.loads(line) for line in (run[0] / "log.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2, 3]
    assert [event["epoch"] for event in epochs if "lav_error_rate" in event["logs"]] == [1, 2, 3]
    assert epochs[0]["logs"]["lav_accuracy"] == pytest.approx(1 - epochs[0]["logs"]["lav_error_rate"], abs=1e-6)
    assert events[-1]["event"] == "summary"
    assert events[-1]["saved"] == ["best", "export", "checkpoint"]


def test_recorded_parameters(run: tuple[Path, str, str]) -> None:
    """The recorded parameters can be used for another training, and the versions of all packages are recorded."""
    about = json.loads((run[0] / "out" / "run.json").read_text())
    assert about["params"] == json.loads((run[0] / "out" / "params.json").read_text())
    assert about["params"]["trainer"]["optimizer"]["name"] == "AdaBelief"
    assert about["origins"]["trainer.epochs"] == "command line"
    assert about["plugins"].keys() >= {"aipcore"}
    assert about["versions"].keys() >= {"python", "tensorflow", "keras", "aipcore"}


def test_csv_log(run: tuple[Path, str, str]) -> None:
    """The file has one row per epoch and one column per value."""
    lines = (run[0] / "out" / "log.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("epoch,")
    assert {"loss", "val_accuracy", "lav_error_rate"} <= set(lines[0].split(","))


def test_tensorboard_reads_it(run: tuple[Path, str, str]) -> None:
    """TensorBoard's own reader finds losses, metrics and the learning rate of each part, one point per epoch."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(run[0] / "out" / "tensorboard"))
    events.Reload()
    found = {name: set(tags["tensors"]) for name, tags in events.Runs().items()}
    assert found["train"] == {"loss", "accuracy", "learning_rate"}
    assert found["validation"] >= {"loss", "accuracy", "misread", "digit", "logits/of_the_digit"}
    assert found["lav"] == {"loss", "accuracy", "error_rate", "worst_recall"}
    assert [event.step for event in events.Tensors("train", "loss")] == [1, 2, 3]


LOAD_WITHOUT_AIP = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("aipcore", "aip_plugins"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
for batch in (1, 3):
    print(serve(image=tf.ones((batch, 8, 8)))["digit"].shape.as_list())
np.save(sys.argv[2], serve(image=tf.constant(np.load(sys.argv[3])))["digit"].numpy())
assert not any(name.startswith("aip") for name in sys.modules)
"""


def test_export_loads_without_aip(run: tuple[Path, str, str], tmp_path: Path) -> None:
    """The export loads and runs without aipcore, and `model.keras` gives the same numbers."""
    images = np.random.default_rng(0).random((5, 8, 8), dtype=np.float32)
    np.save(tmp_path / "images.npy", images)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_AIP, str(run[0] / "out" / "export"), str(tmp_path / "logits.npy"),
         str(tmp_path / "images.npy")], capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[1, 10]", "[3, 10]"]
    import keras

    model = keras.models.load_model(run[0] / "out" / "export" / "model.keras", safe_mode=True)
    logits = model({"image": images})["digit"]
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), logits, rtol=1e-5, atol=1e-6)


def test_best_is_the_best_epoch(run: tuple[Path, str, str]) -> None:
    """The model in `best`, of which only the weights were rewritten, scores the value in the epoch line."""
    import tensorflow as tf
    from aip_plugins.scenarios.tutorial.datasets import load

    events = [json.loads(line) for line in (run[0] / "log.jsonl").read_text().splitlines()]
    images, labels = load("digits")[1]
    serve = tf.saved_model.load(str(run[0] / "out" / "best")).signatures["serving_default"]
    guesses = serve(image=tf.constant(images))["digit"].numpy().argmax(-1)
    assert (guesses == labels).mean() == pytest.approx(events[-1]["best"], abs=1e-6)


def test_never_writes_into_another_run(run: tuple[Path, str, str]) -> None:
    """A second run into the same folder is refused and changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in run[0].rglob("*")}
    process = start(run[0], "train", "tutorial", "--trainer.output_dir", "out")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "already contains a run" in errors
    assert "To continue that run: aip resume out." in errors
    assert {path: path.stat().st_mtime_ns for path in run[0].rglob("*")} == before


def wait_for(path: Path, text: str) -> None:
    """Wait until a file contains a text."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never held {text!r}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_interrupt(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A signal ends the run within 5 s, reports the saved state, and leaves a complete checkpoint and no process."""
    from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

    process = start(tmp_path, "train", "tutorial", "--trainer.epochs", "100000", "--trainer.output_dir", "my runs/out",
                    "--trainer.jit_compile", "off")  # fmt: skip
    wait_for(tmp_path / "my runs" / "out" / "train.log", "epoch      3/")
    sent = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert time.monotonic() - sent < 5
    assert process.returncode == code
    assert "Traceback" not in output + errors
    assert "Stopping and saving. Press Ctrl-C again to stop without saving." in output
    assert "Interrupted after" in output
    assert output.endswith("\nResume with: aip resume 'my runs/out'\n")
    assert not (tmp_path / "my runs" / "out" / "export").exists()
    assert read_checkpoint(newest_checkpoint(tmp_path / "my runs" / "out" / "checkpoint")).progress["epoch"] >= 3
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_interrupt_before_training(tmp_path: Path) -> None:
    """Ctrl-C during TensorFlow's import is reported, with exit code 130 and no traceback."""
    words = ("train", "tutorial", "--trainer.output_dir", "out")
    process = subprocess.Popen(
        [*AIP, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in output + errors


def test_minimal_scenario(tmp_path: Path) -> None:
    """The example of under 40 lines can be trained by its path."""
    file = Path(__file__).parents[2] / "examples" / "minimal_scenario.py"
    assert len(file.read_text().splitlines()) < 40
    process = start(tmp_path, "train", str(file), "--trainer.epochs", "5", "--quiet")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors) == (0, "", "")
    about: dict[str, Any] = json.loads((tmp_path / "runs" / "minimal_scenario-1" / "run.json").read_text())
    assert about["scenario"]["name"] == "minimal_scenario"
