"""Files of strangers, changed at random: every reader ends in an answer or an AipError, soon and in little memory.

What is changed follows from the number of the example, which a failure names.
"""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from aip_plugins.callbacks.csv_log import CSVLog
from aip_plugins.callbacks.params import ReduceOnPlateauParams
from aip_plugins.callbacks.reduce_on_plateau import ReduceOnPlateau
from aip_plugins.callbacks.remote_params import WebhookParams
from aip_plugins.callbacks.tracking import Tracker
from aip_plugins.callbacks.webhook import Webhook
from aip_plugins.commands.sweep.settings import read_settings

from aipcore.cli.main import main
from aipcore.cli.request import Arguments, make_request
from aipcore.errors import AipError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, fill, to_yaml
from aipcore.prediction.model_dir import find_model, resolved_params, scenario_of
from aipcore.prediction.stored import Stored, read_stored, write_stored
from aipcore.scenario.recorded import read_checkpoint_record
from aipcore.training import callback_state
from aipcore.training.checkpoint import Checkpoint, digest, find_newest, read_checkpoint, write_checkpoint
from aipcore.training.params import run_params_class
from aipcore.training.setup import about_run, write_run_files

MEMORY = 256 * 2**20
SECONDS = 2.0

VALUES: list[Any] = [
    None, True, False, 0, -1, 7, 2**31, 2**63, 2**70, -(2**70), 0.5, 1e308, float("nan"), float("inf"), "", "x", "***",
    "a" * 2000, "\x1b]0;x\x07", "../../etc", "/etc/passwd", "\x00", "\ud800", [], {}, [[]], [None], {"": None},
    {"name": "x"}, "env:HOME", "postgresql://a:b@c/d", "none", "é\u2028",
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in JSON values with each of its keys."""
    found: list[tuple[Any, Any]] = []
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        found += [(value, key), *places(item)]
    return found


def changed(content: Any, chance: random.Random) -> Any:
    """Return a copy of JSON values with some of them replaced, moved or left out."""
    content = json.loads(json.dumps(content))
    for _ in range(chance.randint(1, 3)):
        there = places(content)
        if not there:
            break
        container, key = chance.choice(there)
        match chance.randint(0, 5):
            case 0:
                del container[key]
            case 1:
                other, name = chance.choice(there)
                if isinstance(other, dict) or name < len(other):
                    # As text, since a value cannot hold itself.
                    container[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else other[name]))
            case 2 if isinstance(container, dict):
                container[chance.choice(["x", "", "\x1b", "name", "a.b"])] = deepcopy(container[key])
            case _:
                container[key] = deepcopy(chance.choice(VALUES))
    return content


def broken(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with some of them changed, left out, repeated or cut off."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(made) + 1)
        match chance.randint(0, 4):
            case 0:
                del made[at : at + chance.randint(1, 40)]
            case 1:
                made[at:at] = chance.randbytes(chance.randint(1, 40))
            case 2:
                made[at:at] = made[at : at + 40]
            case 3 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case _:
                made[at : at + 8] = chance.choice([b"\xff" * 8, bytes(8), b"[{[{[{[{", b"99999999"])
    return bytes(made)


def text(content: Any) -> bytes:
    """Return a file of JSON, in which a lone surrogate is an escape."""
    return json.dumps(content, indent=1).encode()


def either(content: Any, chance: random.Random) -> bytes:
    """Return a file of JSON with changed values, or with changed bytes."""
    return text(changed(content, chance)) if chance.random() < 0.7 else broken(text(content), chance)


Example = Callable[[random.Random], None]


def tried(example: Example, numbers: range) -> None:
    """Try examples; one that takes long is tried again, since the machine may have been busy."""
    tracemalloc.start()
    try:
        for number in numbers:
            for attempt in range(3):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                began = time.process_time()
                try:
                    example(random.Random(number))
                except AipError:
                    pass
                except Exception as error:
                    raise AssertionError(f"example {number}: {type(error).__name__}: {error}") from error
                assert tracemalloc.get_traced_memory()[1] - before < MEMORY, f"example {number} takes much memory"
                if time.process_time() - began < SECONDS:
                    break
                assert attempt < 2, f"example {number} takes long"
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def request_() -> Any:
    """The tutorial with the callbacks that have states."""
    words = ["--callbacks", "CSVLog", "Webhook", "ReduceOnPlateau", "LearningRateMonitor"]
    return make_request(Arguments(scenario="tutorial", options={}, rest=words), "train")


@pytest.fixture(scope="module")
def about(request_: Any) -> dict[str, Any]:
    """What such a run records."""
    return {**about_run(request_.scenario, request_.resolved(), request_.plugins), "seed": 1}


@pytest.fixture
def parameter_files(tmp_path: Path, request_: Any, about: Any) -> Example:
    """Parameter files, read and filled in."""
    root, yaml = run_params_class(request_.scenario.cls.params_class), to_yaml(request_.resolved().tree).encode()

    def example(chance: random.Random) -> None:
        path = tmp_path / chance.choice(["params.json", "params.yaml"])
        plain = path.suffix == ".json" or chance.random() < 0.5
        path.write_bytes(either(about["params"], chance) if plain else broken(yaml, chance))
        fill(root, [Layer.from_file(path)], get_plugin_manager())

    return example


@pytest.fixture
def run_folders(tmp_path: Path, about: Any, monkeypatch: Any, capsys: Any) -> Example:
    """The folder of a run, as far as `aip resume` reads it without TensorFlow."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_run_files(folder, about)
    monkeypatch.setattr("aipcore.training.resume._resume", lambda *_, **__: None)
    monkeypatch.setenv("AIP_WEBHOOK_URL", "http://localhost")

    def example(chance: random.Random) -> None:
        (folder / "run.json").write_bytes(either(about, chance) if chance.random() < 0.7 else text(about))
        (folder / "params.json").write_bytes(either(about["params"], chance))
        code = main(["resume", str(folder)])
        said = capsys.readouterr()
        assert code in (0, 2), said.err
        assert "in a way it should not" not in said.err
        assert "\x1b" not in said.err + said.out

    return example


@pytest.fixture
def checkpoints(tmp_path: Path, about: Any) -> Example:
    """Checkpoints whose manifest and files agree, and whose values are anything."""
    arrays = {"model/a": np.zeros((2, 3), np.float32), "model/b": np.arange(4, dtype=np.int64)}
    progress = {"epoch": 1, "step": 0, "seed": 1, "history": [{"loss": 1.0}], "callbacks": {}}
    path = write_checkpoint(tmp_path, 1, Checkpoint(arrays=arrays, progress=progress, about=about), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    whole = (path / "variables.npz").read_bytes()

    def example(chance: random.Random) -> None:
        from aipcore.training.checkpoint import _fingerprint

        (path / "variables.npz").write_bytes(broken(whole, chance) if chance.random() < 0.5 else whole)
        (path / "progress.json").write_bytes(either(progress, chance))
        content = {key: value for key, value in manifest.items() if key != "sha256"}
        content["files"] = {name: _fingerprint(path / name) for name in ("variables.npz", "progress.json")}
        if chance.random() < 0.5:
            content = changed(content, chance)
        # JSON has no surrogates, and what cannot be written has no checksum.
        (path / "manifest.json").write_bytes(text({**content, "sha256": digest(content)}))
        find_newest(tmp_path)
        try:
            read_checkpoint(path)
        finally:
            read_checkpoint_record(path)

    return example


@pytest.fixture
def models(tmp_path: Path, about: Any) -> Example:
    """The record of a model, and the parameters to apply it with."""
    signature = {"inputs": {"": {"shape": [28, 28], "dtype": "uint8"}}, "outputs": {}}
    record = {**about, "format": 1, "signature": signature, "formats": ["SavedModel"]}
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()

    def example(chance: random.Random) -> None:
        (tmp_path / "aip.json").write_bytes(either(record, chance))
        model, plugins = find_model(tmp_path), get_plugin_manager()
        resolved_params(model, scenario_of(model, plugins, trust=False), plugins)

    return example


@pytest.fixture
def answers(tmp_path: Path, about: Any) -> Example:
    """Predictions that are stored as arrays."""
    path = tmp_path / "answers.npz"
    stored = Stored(about=about)
    for index in range(3):
        stored.add_sample(index=index, batch=0, list_name="", meta={"number": index}, penalty=0.0)
        stored.add_values("outputs", {"": np.zeros(4, np.float32), "text": "abc", "boxes": np.zeros((index, 4))})
    write_stored(path, stored)
    whole = path.read_bytes()

    def example(chance: random.Random) -> None:
        path.write_bytes(broken(whole, chance))
        read_stored(path)

    return example


@pytest.fixture
def sweeps(tmp_path: Path) -> Example:
    """The file of a sweep."""
    plain = {
        "scenario": "tutorial", "params": None, "words": ["--trainer.epochs", "2"], "space": ["optimizer.epsilon=1..2"],
        "sampler": "tpe", "pruner": "none", "seed": 1, "monitor": ["min", "loss"], "own_monitor": True, "trials": 1,
        "storage": "postgresql://me:***@host/db", "study": "s", "switches": [], "cwd": "/", "home": "h",
    }  # fmt: skip

    def example(chance: random.Random) -> None:
        (tmp_path / "sweep.json").write_bytes(either(plain, chance))
        read_settings(tmp_path, None)

    return example


@pytest.fixture
def states(tmp_path: Path) -> Example:
    """States of callbacks; what a callback accepts, it can go on with."""
    context: Any = None
    made: dict[str, tuple[Callable[[], Any], Any]] = {
        "CSVLog": (
            lambda: CSVLog(tmp_path / "log.csv", ","),
            {"columns": ["epoch", "loss"], "rows": [{"epoch": 1, "loss": 0.5}]},
        ),
        "Webhook": (lambda: Webhook(WebhookParams(), context), {"best": 0.5}),
        "ReduceOnPlateau": (
            lambda: ReduceOnPlateau(ReduceOnPlateauParams(), context),
            {"best": 0.5, "waited": 1, "cooling": 0},
        ),
        "MLflow": (lambda: Tracker("MLflow", context, 1.0), {"run_id": "a" * 32, "unsent": [[1, 2.0, {"loss": 0.5}]]}),
        "EarlyStopping": (
            keras.callbacks.EarlyStopping,
            {"wait": 1, "stopped_epoch": 0, "best": 0.5, "best_epoch": 1, "best_weights": None},
        ),
    }

    def example(chance: random.Random) -> None:
        name = chance.choice(sorted(made))
        make, state = made[name]
        callback = make()
        callback_state.set_state(name, callback, changed(state, chance), {})
        if name == "CSVLog":
            callback.on_epoch_end(3, {"loss": 1.0})
            assert set((tmp_path / "log.csv").read_text().partition("\n")[2]) <= set("0123456789.,-+einfa\n")

    return example


EXAMPLES = {
    "parameter_files": 40, "run_folders": 40, "checkpoints": 80, "models": 40, "answers": 80, "sweeps": 80,
    "states": 120,
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_readers(name: str, request: Any) -> None:
    """A few hundred examples in all."""
    tried(request.getfixturevalue(name), range(EXAMPLES[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_readers_at_length(name: str, request: Any) -> None:
    """Twenty thousand examples in all, by what each takes."""
    total = sum(EXAMPLES.values())
    tried(request.getfixturevalue(name), range(1000, 1000 + 20_000 * EXAMPLES[name] // total))
