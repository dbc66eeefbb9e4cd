"""Folders of runs as a stranger may send them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes the folder of a run of the tutorial that was killed before its first checkpoint, without training.

    Its arguments are the words after `aip train tutorial`, and the folder's name.
    """
    from aipcore.cli.request import Arguments, make_request
    from aipcore.training.setup import about_run, write_run_files

    def make(*words: str, name: str = "run") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        words = ("--trainer.epochs", "1", *words)
        request = make_request(Arguments(scenario="tutorial", options={}, rest=list(words)), "train")
        resolved: Any = request.resolved()
        about = about_run(request.scenario, resolved, request.plugins)
        write_run_files(folder, {**about, "seed": 1})
        (folder / "train.log").touch()
        return folder

    return make


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what the environment of the tests may say of addresses and secrets."""
    for name in ("MLFLOW_TRACKING_URI", "AIP_WEBHOOK_URL", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
