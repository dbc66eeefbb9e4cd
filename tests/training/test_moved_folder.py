"""A run folder that is moved, deleted or replaced during the run is never split into two halves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from aipcore.errors import FolderMovedError
from aipcore.training.checkpoint.format import newest_checkpoint

WORDS = (
    "--trainer.epochs", "4", "--trainer.tune", "off", "--checkpoint.every_steps", "3", "--trainer.lav_every_n", "3",
    "--callbacks", "CSVLog", "LearningRateMonitor", "--callbacks.learning_rate_monitor.csv",
)  # fmt: skip


class At(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that acts once, on the n-th call of one of its methods."""

    def __init__(self, hook: str, count: int, action: Callable[[], object]) -> None:
        super().__init__()
        self.left = count
        self.action = action
        setattr(self, hook, self.called)

    def called(self, *arguments: Any, **more: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def files_of(folder: Path) -> set[str]:
    """Return the relative paths of everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of an undisturbed run, filled by the first test that needs them."""
    return {}


@pytest.mark.parametrize(
    ("hook", "count"),
    [
        ("on_train_batch_end", 5),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [("on_epoch_end", 2), ("on_test_begin", 2), ("on_test_end", 3), ("on_train_end", 1)]
        ),
    ],
)
def test_moved(
    make_trainer: Any, blobs_class: Any, tmp_path: Path, kept: dict[str, Any], hook: str, count: int
) -> None:
    """The run ends and names the folder to resume. The folder is complete and the resumed history is the same."""
    if not kept:
        whole = make_trainer(blobs_class, *WORDS, output="whole")
        kept["history"] = whole.fit().history
        kept["log"] = (tmp_path / "whole" / "log.csv").read_text()
        kept["files"] = {name for name in files_of(tmp_path / "whole") if "/" not in name}
    old, new = tmp_path / "out", tmp_path / "elsewhere" / "new"
    new.parent.mkdir()
    trainer = make_trainer(blobs_class, *WORDS, output="out")
    trainer.callbacks["moves"] = At(hook, count, lambda: old.rename(new))
    with pytest.raises(FolderMovedError) as caught:
        trainer.fit()
    assert str(caught.value) == (
        f"The run stops because its folder {old} was moved to {new}. Resume it there: aip resume {new}"
    )
    assert not old.exists()
    assert {"checkpoint", "tensorboard", "learning_rate.csv"} <= files_of(new)
    # Resuming removes the rest of a write that the move interrupted, as after a kill.
    assert not [path for path in new.glob(".*") if path.name.endswith((".new", ".old"))]

    shutil.copytree(new, old)
    resumed = make_trainer(blobs_class, *WORDS, output="out")
    resumed.restore(newest_checkpoint(old / "checkpoint"))
    # At most an epoch is lost: the newest checkpoint may still have been waiting for the background writer.
    assert resumed.state.batches >= trainer.state.batches - 13
    assert resumed.fit().history == kept["history"]
    assert (old / "log.csv").read_text() == kept["log"]
    assert {name for name in files_of(old) if "/" not in name} == kept["files"]


@pytest.mark.parametrize("replaced", [pytest.param(False, marks=pytest.mark.slow), True])
def test_deleted_or_replaced(make_trainer: Any, blobs_class: Any, tmp_path: Path, replaced: bool, refused: Any) -> None:
    """The run ends with one sentence and writes nothing to the folder that now has its name."""
    out = tmp_path / "out"

    def act() -> None:
        # A checkpoint is being written at this moment.
        while out.exists():
            shutil.rmtree(out, ignore_errors=True)
        if replaced:
            (out / "checkpoint").mkdir(parents=True)

    trainer = make_trainer(blobs_class, *WORDS, output="out")
    trainer.callbacks["acts"] = At("on_train_batch_end", 5, act)
    with refused(FolderMovedError):
        trainer.fit()
    assert files_of(tmp_path) == ({"out", "out/checkpoint"} if replaced else set())


@pytest.mark.slow
def test_moved_during_a_write(make_trainer: Any, blobs_class: Any, tmp_path: Path, refused: Any) -> None:
    """A folder that is moved while the best model is written receives all of it, and the old place nothing."""
    old, new = tmp_path / "out", tmp_path / "new"
    trainer = make_trainer(blobs_class, *WORDS, output="out")
    write = trainer._run_writer._writer._save_model

    def moving(folder: Path) -> None:
        if old.exists():
            old.rename(new)
        write(folder)

    trainer._run_writer._writer._save_model = moving
    with refused(FolderMovedError):
        trainer.fit()
    assert not old.exists()
    assert (new / "best" / "aip.json").exists()
    assert (new / "best" / "saved_model.pb").exists()
