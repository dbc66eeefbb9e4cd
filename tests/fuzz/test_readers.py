"""Almost valid files of strangers: every reader ends with a result or an AipError, soon, in little memory."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from aip_plugins.callbacks.csv_log import CSVLog
from aip_plugins.callbacks.learning_rate_monitor import LearningRateMonitor
from aip_plugins.callbacks.observe_params import LearningRateMonitorParams
from aip_plugins.callbacks.params import ReduceOnPlateauParams
from aip_plugins.callbacks.reduce_on_plateau import ReduceOnPlateau
from aip_plugins.callbacks.remote_params import TrackerParams, WebhookParams
from aip_plugins.callbacks.tracking import Tracker
from aip_plugins.callbacks.webhook import Webhook
from aip_plugins.commands.sweep.settings import read_settings
from hypothesis import strategies as st
from inputs import LONGER, as_json, broken, changed, explore, files, texts

from aipcore.cli.main import main
from aipcore.cli.request import Arguments, make_request
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, fill, to_yaml
from aipcore.prediction.locate import find_model, resolved_params, scenario_of
from aipcore.prediction.saved_predictions import Stored, read_stored, write_stored
from aipcore.scenario.list_file import _listed
from aipcore.scenario.record import read_checkpoint_record
from aipcore.training.artifacts import WEIGHTS, find_artifact
from aipcore.training.checkpoint import callback_state
from aipcore.training.checkpoint.format import (
    Checkpoint,
    _fingerprint,
    digest,
    find_newest,
    read_checkpoint,
    write_checkpoint,
)
from aipcore.training.components import about_run, write_run_files
from aipcore.training.params import run_params_class
from aipcore.training.warmstart.readers import read_weights

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

Reader = tuple[st.SearchStrategy[Any], Callable[[Any], Any]]


@pytest.fixture(scope="module")
def request_() -> Any:
    """Return the tutorial's request with the callbacks that have states."""
    words = ["--callbacks", "CSVLog", "Webhook", "ReduceOnPlateau", "LearningRateMonitor"]
    return make_request(Arguments(scenario="tutorial", options={}, rest=words), "train")


@pytest.fixture(scope="module")
def about(request_: Any) -> dict[str, Any]:
    """Return the record of such a run."""
    return {**about_run(request_.scenario, request_.resolved(), request_.plugins), "seed": 1}


@pytest.fixture
def parameter_files(tmp_path: Path, request_: Any, about: Any) -> Reader:
    """Read and fill in parameter files."""
    root, yaml = run_params_class(request_.scenario.cls.params_class), to_yaml(request_.resolved().tree).encode()

    def read(drawn: tuple[str, bytes]) -> None:
        path = tmp_path / drawn[0]
        path.write_bytes(drawn[1])
        fill(root, [Layer.from_file(path)], get_plugin_manager())

    either = st.sampled_from(["params.json", "params.yaml"])
    return st.tuples(either, files(about["params"])) | st.tuples(st.just("params.yaml"), broken(yaml)), read


@pytest.fixture
def run_folders(tmp_path: Path, about: Any, monkeypatch: Any, capsys: Any) -> Reader:
    """Read the part of a run folder that `aip resume` reads without TensorFlow."""
    write_run_files(tmp_path, about)
    monkeypatch.setattr("aipcore.training.resume._resume", lambda *_, **__: SimpleNamespace(signal=None))
    monkeypatch.setenv("AIP_WEBHOOK_URL", "http://localhost")

    def read(drawn: tuple[bytes, bytes]) -> None:
        for name, content in zip(("run.json", "params.json"), drawn, strict=True):
            (tmp_path / name).write_bytes(content)
        code = main(["resume", str(tmp_path)])
        said = capsys.readouterr()
        assert code in (0, 2), said.err
        assert "failed unexpectedly" not in said.err
        assert "\x1b" not in said.err + said.out

    return st.tuples(files(about) | st.just(as_json(about)), files(about["params"])), read


@pytest.fixture
def checkpoints(tmp_path: Path, about: Any) -> Reader:
    """Read checkpoints with matching manifest and files, and arbitrary values."""
    arrays = {"model/a": np.zeros((2, 3), np.float32), "model/b": np.arange(4, dtype=np.int64)}
    progress = {"epoch": 1, "step": 0, "seed": 1, "history": [{"loss": 1.0}], "callbacks": {}}
    path = write_checkpoint(tmp_path, 1, Checkpoint(arrays=arrays, progress=progress, about=about), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"], manifest["files"]
    whole = (path / "variables.npz").read_bytes()

    def read(drawn: tuple[bytes, bytes, Any, Any]) -> None:
        (path / "variables.npz").write_bytes(drawn[0])
        (path / "progress.json").write_bytes(drawn[1])
        content = {
            **drawn[2],
            "files": {name: _fingerprint(path / name) for name in ("variables.npz", "progress.json")},
        }
        content["files"] = drawn[3](content["files"])
        # JSON has no surrogates, and unwritable values have no checksum.
        (path / "manifest.json").write_bytes(as_json({**content, "sha256": digest(content)}))
        find_newest(tmp_path)
        try:
            read_checkpoint(path)
        finally:
            read_checkpoint_record(path)

    same = st.just(lambda value: value)
    names = ["variables.npz", "progress.json"]
    wrong = changed({name: {"bytes": 1, "sha256": "0"} for name in names}).map(lambda value: lambda _: value)
    return (
        st.tuples(
            broken(whole) | st.just(whole),
            files(progress) | st.just(as_json(progress)),
            changed(manifest) | st.just(manifest),
            st.one_of(same, same, same, wrong),
        ),
        read,
    )


@pytest.fixture
def models(tmp_path: Path, about: Any) -> Reader:
    """Read the record of a model, and the parameters to load it with."""
    signature = {"inputs": {"": {"shape": [28, 28], "dtype": "uint8"}}, "outputs": {}}
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()

    def read(content: bytes) -> None:
        (tmp_path / "aip.json").write_bytes(content)
        model, plugins = find_model(tmp_path), get_plugin_manager()
        resolved_params(model, scenario_of(model, plugins, trust=False)[0], plugins)

    return files({**about, "format": 1, "signature": signature, "formats": ["SavedModel"]}), read


@pytest.fixture
def answers(tmp_path: Path, about: Any) -> Reader:
    """Read predictions that are stored as arrays, with changes in the archive or in the arrays."""
    path = tmp_path / "answers.npz"
    stored = Stored(about=about)
    for index in range(3):
        stored.add_sample(index=index, batch=0, list_name="", meta={"number": index}, penalty=0.0)
        stored.add_values("outputs", {"": np.zeros(4, np.float32), "text": "abc", "boxes": np.zeros((index, 4))})
    write_stored(path, stored)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def packed(name: str, content: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, content if member == name else data)
        return made.getvalue()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_stored(path)

    inside = st.sampled_from(sorted(members)).flatmap(
        lambda name: broken(members[name]).map(lambda content: packed(name, content))
    )
    return broken(whole) | inside, read


@pytest.fixture
def weights(tmp_path: Path) -> Reader:
    """Read weights files of Keras."""
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        for number in range(2):
            group = file.create_group(f"layers/dense_{number}")
            group.attrs["name"] = f"d{number}"
            group["vars/0"] = np.ones((3, 2), np.float32)
            group.create_dataset("vars/1", data=np.zeros(64, np.float32), chunks=(16,), compression="gzip")
    config = {
        "class_name": "Functional",
        "config": {"layers": [{"class_name": "Dense", "config": {"name": "d", "units": 2}, "name": "d"}]},
    }
    content = path.read_bytes()

    def read(drawn: tuple[bytes, bytes | None]) -> None:
        if drawn[1] is None:
            path.write_bytes(drawn[0])
            read_weights(find_artifact(path, WEIGHTS))
            return
        with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
            archive.writestr("config.json", drawn[1])
            archive.writestr("model.weights.h5", drawn[0])
        read_weights(find_artifact(tmp_path / "x.keras", WEIGHTS))

    return st.tuples(broken(content), st.none() | st.just(as_json(config))) | st.tuples(
        st.just(content), files(config)
    ), read


@pytest.fixture
def lists(tmp_path: Path) -> Reader:
    """Read lists of files."""
    names = ["a.png", "# b.png", " c.png", "ü.png", "d\u2028e.png"]
    for name in names:
        (tmp_path / name).touch()
    words = st.sampled_from([*names, "~", "~root", "~\x00", "~x/y", "#", "\ufeff", "\r", "/", "..", "a" * 70_000])
    lines = st.lists(words | texts, max_size=6).map("\n".join)
    path = tmp_path / "list.txt"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _listed(path, "train")

    return lines.map(lambda text: text.encode("utf-8", "surrogatepass")) | broken("\n".join(names).encode()), read


@pytest.fixture
def sweeps(tmp_path: Path) -> Reader:
    """Read the file of a sweep."""
    plain = {
        "scenario": "tutorial", "params": None, "words": ["--trainer.epochs", "2"], "space": ["optimizer.epsilon=1..2"],
        "sampler": "tpe", "pruner": "none", "seed": 1, "monitor": ["min", "loss"], "own_monitor": True, "trials": 1,
        "storage": "postgresql://me:***@host/db", "study": "s", "cwd": "/", "home": "h",
    }  # fmt: skip

    def read(content: bytes) -> None:
        (tmp_path / "sweep.json").write_bytes(content)
        read_settings(tmp_path, None)

    return files(plain), read


@pytest.fixture
def states(tmp_path: Path) -> Reader:
    """Restore states of callbacks; a callback continues with each state that it accepts."""
    context: Any = None
    made: dict[str, tuple[Callable[[], Any], Any]] = {
        "CSVLog": (
            lambda: CSVLog(tmp_path / "log.csv", ","),
            {"columns": ["epoch", "loss"], "rows": [{"epoch": 1, "loss": 0.5}]},
        ),
        "LearningRateMonitor": (
            lambda: LearningRateMonitor(LearningRateMonitorParams(), type("", (), {"output_dir": tmp_path})()),
            {"bytes": 100},
        ),
        "Webhook": (lambda: Webhook(WebhookParams(), context), {"best": 0.5}),
        "ReduceOnPlateau": (
            lambda: ReduceOnPlateau(ReduceOnPlateauParams(), context),
            {"best": 0.5, "waited": 1, "cooling": 0},
        ),
        "MLflow": (
            lambda: Tracker("MLflow", TrackerParams(), SimpleNamespace(output_dir=tmp_path)),  # type: ignore[arg-type]
            {
                "run_id": "a" * 32,
                "points": 1,
                "unsent": [{"number": 1, "axis": "epoch", "place": 1, "when": 2.0, "values": {"loss": 0.5}}],
            },
        ),
        "EarlyStopping": (
            keras.callbacks.EarlyStopping,
            {"wait": 1, "stopped_epoch": 0, "best": 0.5, "best_epoch": 1, "best_weights": None},
        ),
    }

    def read(drawn: tuple[str, Any]) -> None:
        name, state = drawn
        callback = made[name][0]()
        callback_state.set_state(name, callback, state, {})
        if name == "CSVLog":
            callback.on_epoch_end(3, {"loss": 1.0})
            assert set((tmp_path / "log.csv").read_text().partition("\n")[2]) <= set("0123456789.,-+einfa\n")

    either = st.sampled_from(sorted(made)).flatmap(lambda name: st.tuples(st.just(name), changed(made[name][1])))
    return either, read


READERS = {
    "parameter_files": 25, "run_folders": 25, "checkpoints": 60, "models": 25, "answers": 40, "weights": 40,
    "lists": 40, "sweeps": 40, "states": 70,
}  # fmt: skip
"""Examples of a default run."""


@pytest.mark.parametrize("times", [pytest.param(1, id="some"), pytest.param(LONGER, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_readers(name: str, times: int, request: Any) -> None:
    """A few hundred examples by default, or twenty thousand with those of messages, are read within the limits."""
    explore(*request.getfixturevalue(name), READERS[name] * times)
