"""One test for each trap of the predecessor and of Keras that belongs to training and has no separate file.

Traps with a separate file: schedules and EMA under accumulation (test_accumulation.py, test_ema.py), swapping
averaged weights (test_ema.py), accumulation on several devices (test_strategies.py), warm start (test_warmstart.py),
resuming (test_resume.py), Ctrl-C (test_run.py), empty data (test_sanity.py).
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from aipcore.errors import ParamsError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, resolve
from aipcore.scenario import Scenario, ScenarioParams
from aipcore.training.params import run_params_class


def resolved(*words: str) -> Any:
    """Return the parameters of a command line."""
    return resolve(run_params_class(ScenarioParams), [Layer.from_arguments(words)], get_plugin_manager()).value


class Constant(Scenario):
    """A scenario with the same validation loss in every epoch, at a learning rate of almost 0."""

    def train_data(self) -> Any:
        return np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)

    def val_data(self) -> Any:
        return self.train_data()

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1, kernel_initializer="ones")(inputs)

    def losses(self) -> Any:
        return "mean_squared_error"


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_trap_early_stopping_is_off_by_one(make_trainer: Callable[..., Any], patience: int) -> None:
    """The run has exactly n_to_go epochs after the first, best one; 1 does not turn early stopping off."""
    words = ("--learning_rate.lr", "1e-30", "--trainer.epochs", "9", "--early_stopping.n_to_go", str(patience))
    result = make_trainer(Constant, *words).fit()
    assert (result.status, result.epochs, result.best_epoch) == ("stopped", 1 + patience, 1)


def test_trap_a_boolean_of_maybe_is_false(refused: Any) -> None:
    """The value `maybe` is an error."""
    with refused(ParamsError):
        resolved("--trainer.force_eager", "maybe")


@pytest.mark.slow
def test_trap_without_an_output_folder_nothing_is_saved(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """A run without an output folder creates a new one, and a second run creates another."""
    for _ in range(2):
        assert fork_aip("train", "tutorial", "--trainer.epochs", "1", "--quiet").returncode == 0
    for name in ("tutorial-1", "tutorial-2"):
        assert (tmp_path / "runs" / name / "best" / "saved_model.pb").is_file()
        assert list((tmp_path / "runs" / name / "checkpoint").iterdir())


def test_trap_a_batch_size_of_0_divides_by_zero(refused: Any) -> None:
    """A batch size of 0 is an error."""
    with refused(ParamsError):
        resolved("--train.batch_size", "0")


def test_trap_rmsprop_with_a_rho_of_0() -> None:
    """The default of rho is the documented one and reaches the optimizer."""
    plugins = get_plugin_manager()
    params = resolved("--optimizer", "RMSprop").trainer.optimizer.params
    assert params.rho == 0.9
    assert plugins.load_build("optimizer", "RMSprop")(params, 0.001).rho == 0.9


def order(trainer: Any, epoch: int) -> list[float]:
    """Return the samples of an epoch in order."""
    return [
        float(value) for block in trainer.data.loader.blocks(epoch, chunk=99) for value in block.targets[""].ravel()
    ]


class Counted(Constant):
    """A scenario with distinguishable samples."""

    def train_data(self) -> Any:
        return np.ones((40, 1), np.float32), np.arange(40, dtype=np.float32)[:, None]


def test_trap_the_minimal_tutorial_never_shuffles(make_trainer: Callable[..., Any]) -> None:
    """Samples are shuffled by default."""
    assert order(make_trainer(Counted), 0) != list(range(40))
    assert sorted(order(make_trainer(Counted), 0)) == list(range(40))


def test_trap_a_fixed_seed_repeats_one_order(make_trainer: Callable[..., Any]) -> None:
    """Each epoch has a different order, and runs with the same seed have the same orders."""
    trainer, again = make_trainer(Counted), make_trainer(Counted)
    orders = [order(trainer, epoch) for epoch in range(5)]
    assert len({tuple(each) for each in orders}) == 5
    assert [order(again, epoch) for epoch in (4, 2)] == [orders[4], orders[2]]


def test_trap_help_shows_defaults_that_the_scenario_does_not_use(fork_aip: Callable[..., Any]) -> None:
    """The help shows the number of epochs that the scenario trains."""
    done = fork_aip("train", "tutorial", "--help")
    text = " ".join(done.stdout.split())
    assert re.search(r"--trainer\.epochs INT [^\[]+\[20, set by tutorial\]", text)


def test_trap_the_state_of_dropout_is_in_no_saved_format(make_trainer: Callable[..., Any], noisy_class: Any) -> None:
    """The seeds' counters are saved: they advance with every batch."""
    trainer = make_trainer(noisy_class, output="out")
    names = [name for name in trainer.state.variables.read() if name.endswith("seed_generator_state")]
    assert len(names) == 1
    before = trainer.state.variables.read()[names[0]][1]
    trainer.fit()
    assert trainer.state.variables.read()[names[0]][1] == before + 2 * trainer.data.batching.steps


def test_trap_lamb_has_no_name() -> None:
    """Keras cannot find LAMB by its name; aip has it among the optimizers."""
    assert get_plugin_manager().has("optimizer", "lamb")


def test_trap_tensorflow_does_not_bring_tensorboard() -> None:
    """Aip depends on TensorBoard because it writes event files."""
    needed = [text for text in requires("aipcore") or [] if "extra ==" not in text]
    assert any(text.startswith("tensorboard") for text in needed)


SAVE_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
import numpy as np
from aipcore.training.checkpoint.format import Checkpoint, write_checkpoint
folder = Path(sys.argv[1])
number = 0
while True:
    number += 1
    arrays = {f"w{part}": np.full(200_000, number, np.float32) for part in range(10)}
    write_checkpoint(folder, number, Checkpoint(arrays=arrays, progress={"number": number}), keep=2)
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.02])
def test_trap_a_kill_while_saving_loses_both_copies(tmp_path: Path, delay: float) -> None:
    """After a kill at any moment of writing, the newest complete checkpoint is not older than the last reported one."""
    from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint

    process = subprocess.Popen(
        [sys.executable, "-c", SAVE_AGAIN_AND_AGAIN, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(3)][-1]
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    reported = int(rest.split()[-1]) if rest.split() else reported
    stored = read_checkpoint(newest_checkpoint(tmp_path))
    assert stored.progress["number"] >= reported
    assert all((array == stored.progress["number"]).all() for array in stored.arrays.values())
