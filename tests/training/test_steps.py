"""Steps within epochs: logged values, validations and the end of a run, counted in optimizer updates."""

from __future__ import annotations

import math
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

import aipcore
from aipcore.errors import ParamsError
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.engine.learning_rate import Horizon
from aipcore.training.engine.step_log import StepLog
from aipcore.training.plan import describe_steps
from aipcore.training.reporter import Reporter, StepReport, ValidationReport
from aipcore.training.run_state import PLACE
from aipcore.training.steps import Steps

PLAIN = (
    "--optimizer",
    "SGD",
    "--learning_rate",
    "CosineDecay",
    "--learning_rate.lr",
    "0.1",
    "--train.shuffle",
    "false",
)
QUICK = ("--trainer.write_checkpoints", "False", "--trainer.skip_sanity_check", "True")


class Recording(Reporter):
    """Keeps the reports within epochs."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.validations: list[ValidationReport] = []

    def step_logged(self, report: StepReport) -> None:
        self.steps.append(report)

    def validated(self, report: ValidationReport) -> None:
        self.validations.append(report)


def chunked(trainer: Any, chunk: int) -> Any:
    """Return the trainer with a fixed number of steps per call."""
    trainer.state.compilation = attrs.evolve(trainer.compile(), chunk=chunk)
    return trainer


def bits(trainer: Any) -> dict[str, bytes]:
    """Return all variables of a run, as bytes."""
    return {name: array.tobytes() for name, array in trainer.state.variables.read().items()}


def points(folder: Path, run: str, tag: str = "loss") -> list[tuple[int, float]]:
    """Return all points of a curve in the order in which they were written, also doubled ones."""
    return [
        (event.step, float(make_ndarray(value.tensor)))
        for file in sorted((folder / "tensorboard" / run).glob("events.*"))
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
        if value.tag == tag
    ]


@pytest.mark.parametrize("batches", [1, 7, 12])
@pytest.mark.parametrize("group", [1, 3, 5])
def test_steps_by_counting(batches: int, group: int) -> None:
    """Updates, ends of epochs and due batches are those of a loop that counts."""
    for most, every, epochs in ((None, 1, 3), (1, 2, 3), (5, 3, 9), (11, 4, None), (14, 5, None), (400, 7, 4)):
        steps = Steps(batches=batches, accumulate_steps=group, epochs=epochs, max_steps=most, log=every, validate=every)
        updates, epoch = 0, 0
        while (most is None or updates < most) and (epochs is None or epoch < epochs):
            first, ended, due = updates, batches, []
            for batch in range(1, batches + 1):
                if batch % group == 0 or batch == batches:
                    updates += 1
                    due += [batch] * (updates % every == 0)
                assert steps.completed(batch) == updates - first
                if updates == most:
                    ended = batch
                    break
            assert steps.end(first) == ended
            assert {end for end in steps.ends(first, log=True) if end <= ended} == {*due, ended}
            epoch += 1
        horizon = steps.horizon
        assert (horizon.epochs, horizon.total_updates) == (epoch, updates)
        assert horizon.length == pytest.approx(updates / math.ceil(batches / group))


@pytest.mark.parametrize("jit", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_same_numbers_as_fit(make_trainer: Any, blobs_class: Any, jit: str) -> None:
    """Values of each update and of validations within epochs equal those of callbacks of `Model.fit`."""
    words = (
        *PLAIN, *QUICK, "--train.batch_size", "16", "--trainer.log_every_steps", "1", "--trainer.val_every_steps", "5",
        "--trainer.jit_compile", jit,
    )  # fmt: skip
    recorded = Recording()
    trainer = make_trainer(blobs_class, *words, reporter=recorded)
    scenario = trainer.scenario
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 26)), scenario.losses(),
                  metrics=scenario.metrics())  # fmt: skip
    # `evaluate` resets the metrics of the model, so that they are computed on a copy.
    copy = keras.models.clone_model(model)
    copy.compile(loss=scenario.losses(), metrics=scenario.metrics())
    expected, validations = [], []

    def batch_ended(batch: int, logs: Any) -> None:
        rate = float(model.optimizer._learning_rate(int(model.optimizer.iterations) - 1))
        expected.append({**logs, "learning_rate": rate})
        if len(expected) % 5 == 0:
            copy.set_weights(model.get_weights())
            validations.append(copy.evaluate(*scenario.val_data(), verbose=0, return_dict=True))

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=batch_ended)
    model.fit(*scenario.train_data(), batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
    result = chunked(trainer, 4).fit()

    assert [report.step for report in recorded.steps] == list(range(1, 27))
    assert [report.epoch for report in recorded.steps] == [1] * 13 + [2] * 13
    for report, logs in zip(recorded.steps, expected, strict=True):
        found = dict(report.logs)
        assert found.pop("samples_per_second") > 0
        assert found == pytest.approx(logs, rel=1e-5, abs=1e-7)
    assert [report.step for report in recorded.validations] == [5, 10, 15, 20, 25]
    for report, own, logs in zip(recorded.validations, result.validations, validations, strict=False):
        results = {f"val_{name}": value for name, value in logs.items()}
        assert {name: report.logs[name] for name in results} == pytest.approx(results, rel=1e-5)
        assert own == {"step": report.step, "epoch": report.epoch, **{name: report.logs[name] for name in results}}
    # The last epoch is always validated.
    assert [each["step"] for each in result.validations] == [5, 10, 15, 20, 25, 26]
    assert ["val_loss" in logs for logs in result.history] == [False, True]


@pytest.mark.slow
def test_values_are_gathered_within_calls(make_trainer: Any, noisy_class: Any, monkeypatch: Any) -> None:
    """Values kept on the device during a call equal those between calls, and neither changes a bit of the run."""
    words = (*QUICK, "--train.batch_size", "16", "--trainer.accumulate_steps", "2", "--trainer.log_every_steps", "3")
    runs = []
    for gathered in (True, False):
        if not gathered:
            monkeypatch.setattr("aipcore.training.setup.make_step_log", lambda *_: None)
        recorded = Recording()
        trainer = chunked(make_trainer(noisy_class, *words, reporter=recorded), 13)
        assert isinstance(trainer.engine.loop.step_log, StepLog if gathered else type(None))
        history = trainer.fit().history
        runs.append((recorded.steps, history, bits(trainer)))
    (steps, *outcome), (others, *other_outcome) = runs
    assert outcome == other_outcome
    assert [(each.step, each.epoch) for each in steps] == [(3, 1), (6, 1), (9, 2), (12, 2)]
    for one, other in zip(steps, others, strict=True):
        values, expected = dict(one.logs), dict(other.logs)
        assert values.pop("samples_per_second") > 0
        assert expected.pop("samples_per_second") > 0
        assert values == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_metric_that_cannot_be_compiled(make_trainer: Any, blobs_class: Any) -> None:
    """A metric whose result needs NumPy is read between calls."""

    class OnHost(keras.metrics.SparseCategoricalAccuracy):
        def result(self) -> Any:
            return float(np.asarray(super().result()))

    cls = type("OnHost", (blobs_class,), {"metrics": lambda _: [OnHost(name="accuracy")]})
    recorded = Recording()
    trainer = make_trainer(cls, *QUICK, "--trainer.log_every_steps", "2", "--trainer.epochs", "1", reporter=recorded)
    assert trainer.engine.loop.step_log is None
    trainer.fit()
    assert [each.step for each in recorded.steps] == list(range(2, recorded.steps[-1].step + 1, 2))
    assert all(0 <= each.logs["accuracy"] <= 1 for each in recorded.steps)


@pytest.mark.slow
def test_validation_at_the_end_of_epochs(make_trainer: Any, noisy_class: Any) -> None:
    """With the steps of an epoch between validations, a run equals one that validates after each epoch."""
    words = (*QUICK, "--train.batch_size", "16", "--trainer.epochs", "3", "--trainer.calc_ema", "0.9")
    one, other = (make_trainer(noisy_class, *words, *more) for more in ((), ("--trainer.val_every_steps", "13")))
    assert one.fit().history == other.fit().history
    assert bits(one) == bits(other)
    assert [each["step"] for each in other.state.validations] == [13, 26, 39]
    steps = make_trainer(noisy_class, *words, "--trainer.val_every_steps", "4")
    result = steps.fit()
    # EMA and batch norm: validation within epochs leaves the training unchanged.
    assert [each["loss"] for each in result.history] == [each["loss"] for each in one.state.history]
    assert bits(steps) == bits(one)
    assert [sorted(each.keys() - set(PLACE)) for each in result.validations] == [["val_accuracy", "val_loss"]] * 10
    assert result.best == max(each["val_accuracy"] for each in result.validations)
    assert result.best_step == next(each["step"] for each in result.validations if each["val_accuracy"] == result.best)


class Hooks(keras.callbacks.Callback):
    """Records the order of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def on_test_begin(self, logs: Any = None) -> None:
        self.calls.append("test_begin")

    def on_test_end(self, logs: Any = None) -> None:
        self.calls.append("test_end")

    def on_step_validation(self, step: int, logs: Any) -> None:
        self.calls.append((step, sorted(logs)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch", sorted(logs)))


def test_callbacks(make_trainer: Any, blobs_class: Any) -> None:
    """A validation calls the hooks of `evaluate`; within an epoch, `on_step_validation` follows."""
    trainer = make_trainer(
        blobs_class, *QUICK, "--train.batch_size", "40", "--trainer.val_every_steps", "3", "--trainer.epochs", "2"
    )
    trainer.callbacks["hooks"] = hooks = Hooks()
    trainer.fit()
    plain = ["accuracy", "learning_rate", "loss"]
    both = sorted([*plain, "val_accuracy", "val_loss"])
    test = ["test_begin", "test_end"]
    assert hooks.calls == [
        *test, (3, both), ("epoch", plain), *test, (6, both), *test, (9, both), *test, ("epoch", both),
    ]  # fmt: skip


def test_early_stopping_and_plateaus_count_validations(make_trainer: Any, blobs_class: Any) -> None:
    """The patience counts validations, and the run ends within the epoch, with the results of the last one."""
    words = (
        "--learning_rate.lr", "1e-30", "--early_stopping.n_to_go", "3", "--trainer.epochs", "9", "--train.batch_size",
        "16", "--trainer.val_every_steps", "2", "--callbacks", "ReduceOnPlateau",
        "--callbacks.ReduceOnPlateau.patience", "2",
    )  # fmt: skip
    trainer = make_trainer(blobs_class, *words, output="out", exports=False)
    hooks = trainer.callbacks["hooks"] = Hooks()
    result = trainer.fit()
    assert (result.status, result.epochs, result.updates, result.best_step) == ("stopped", 1, 8, 2)
    assert trainer.state.stopped.endswith("has not improved for 3 validations")
    assert [each["step"] for each in result.validations] == [2, 4, 6, 8]
    assert result.history[0]["val_loss"] == result.validations[-1]["val_loss"]
    assert hooks.calls.count("test_begin") == 4
    # The values of updates 4 and 6 have not improved.
    assert float(trainer.engine.learning_rate.scale.numpy()) == 0.5
    assert [step for step, _ in points(trainer.output_dir, "validation_steps")] == [2, 4, 6, 8]


@pytest.mark.slow
def test_best_within_an_epoch(make_trainer: Any, blobs_class: Any) -> None:
    """The model of the best validation is exported, with its weights at that time."""

    class Worse(keras.callbacks.Callback):
        """Destroys the weights after a validation."""

        def on_step_validation(self, step: int, logs: Any) -> None:
            self.model.set_weights([0 * weight for weight in self.model.get_weights()])

    words = (
        "--trainer.epochs", "1", "--train.batch_size", "16", "--trainer.val_every_steps", "10", "--learning_rate.lr",
        "0.05", "--trainer.export_final", "False", *QUICK,
    )  # fmt: skip
    trainer = make_trainer(blobs_class, *words, output="out")
    trainer.callbacks["worse"] = Worse()
    result = trainer.fit()
    assert (result.best_step, result.best_epoch) == (10, 1)
    import tensorflow as tf

    serve = tf.saved_model.load(str(trainer.output_dir / "best")).signatures["serving_default"]
    inputs, labels = trainer.scenario.val_data()
    (outputs,) = serve(tf.constant(inputs)).values()
    assert np.mean(outputs.numpy().argmax(-1) == labels) == pytest.approx(result.best)
    assert result.best > 0.5


@pytest.mark.parametrize("schedule", ["CosineDecay", pytest.param("Constant", marks=pytest.mark.slow)])
def test_max_steps(make_trainer: Any, noisy_class: Any, schedule: str) -> None:
    """A run ends after exactly this many updates, schedules with it, and its last epoch is complete otherwise."""
    words = ("--train.batch_size", "16", "--trainer.accumulate_steps", "2", "--learning_rate", schedule)
    recorded = Recording()
    trainer = make_trainer(
        noisy_class, *words, "--trainer.max_steps", "17", "--trainer.log_every_steps", "1", output="out", exports=False,
        reporter=recorded,
    )  # fmt: skip
    assert trainer.data.horizon == Horizon(updates_per_epoch=7, epochs=3, max_updates=17)
    result = trainer.fit()
    assert (result.status, result.epochs, result.updates, result.partial) == ("finished", 3, 17, True)
    assert int(trainer.engine.optimizer.iterations.numpy()) == 17
    assert len(result.history) == 3
    assert "val_loss" in result.history[-1]
    assert "3 epochs of 7 updates from 2 batches each, to update 17" in dict(trainer.plan())["optimizer"]
    if schedule == "CosineDecay":
        rates = [0.001 * (1 + math.cos(math.pi * update / 17)) / 2 for update in range(17)]
        assert [each.logs["learning_rate"] for each in recorded.steps] == pytest.approx(rates, rel=1e-5)
        return
    # Resumed with a larger number, the run continues within the epoch, as if it had never ended.
    whole = make_trainer(noisy_class, *words, "--trainer.max_steps", "26", output="whole", exports=False)
    history = whole.fit().history
    again = make_trainer(noisy_class, *words, "--trainer.max_steps", "26", output="again", exports=False)
    again.restore(newest_checkpoint(trainer.output_dir / "checkpoint"))
    assert again.state.position == (2, 6)
    assert again.fit().history == history
    assert bits(again) == bits(whole)


@pytest.mark.slow
def test_max_steps_and_epochs(make_trainer: Any, blobs_class: Any) -> None:
    """Training ends at the first of both, and `--trainer.max_steps` alone replaces the default of the epochs."""
    for words, expected in (
        (("--trainer.max_steps", "40", "--trainer.epochs", "2"), (2, 26)),
        (("--trainer.max_steps", "5", "--trainer.epochs", "2"), (1, 5)),
        # The fixture sets two epochs, as a scenario's defaults may.
        (("--trainer.max_steps", "40"), (4, 40)),
        (("--trainer.max_steps", "13"), (1, 13)),
    ):
        trainer = make_trainer(blobs_class, *QUICK, "--train.batch_size", "16", *words)
        result = trainer.fit()
        assert (result.status, result.epochs, result.updates) == ("finished", *expected)
        assert trainer.about["params"]["trainer"]["epochs"] == (2 if "--trainer.epochs" in words else None)


@pytest.mark.parametrize(
    "words",
    [("--trainer.epochs", "none"), ("--trainer.val_every_steps", "0"), ("--trainer.max_steps", "0"),
     ("--trainer.val_every_steps", "3")],
)  # fmt: skip
def test_refused(make_trainer: Any, blobs_class: Any, words: tuple[str, ...], refused: Any) -> None:
    """A run without an end, a validation without data, and numbers below 1 are errors before anything is computed."""
    cls = type("Alone", (blobs_class,), {"val_data": lambda _: None}) if words[1] == "3" else blobs_class
    with refused(ParamsError):
        make_trainer(cls, *words)


class Stopping(keras.callbacks.Callback):
    """Sends this process a signal at the validation after an update, or at the end of a chunk."""

    accepts_chunks = True

    def __init__(self, trainer: Any, step: int, *, validation: bool) -> None:
        super().__init__()
        self.trainer, self.step, self.validation = trainer, step, validation

    def _stop(self) -> None:
        if self.trainer.state.updates == self.step:
            self.step = -1
            signal.raise_signal(signal.SIGTERM)

    def on_test_begin(self, logs: Any = None) -> None:
        if self.validation:
            self._stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self.validation:
            self._stop()


RESUMED = {
    "trainer.epochs": 2, "train.batch_size": 16, "trainer.val_every_steps": 5, "trainer.log_every_steps": 3,
    "trainer.random_seed": 7, "trainer.tune": "off", "trainer.calc_ema": 0.9, "early_stopping.n_to_go": 7,
    "callbacks": ["ReduceOnPlateau"], "callbacks.ReduceOnPlateau.patience": 1, "trainer.export_final": False,
    "trainer.export_best": False, "checkpoint.keep": 99, "trainer.skip_sanity_check": True,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "validation"),
    [(20, True), (20, False), (17, False)],
)
def test_resume(noisy_class: Any, tmp_path: Path, step: int, validation: bool) -> None:
    """A run stopped within an epoch, before or during a validation, resumes to the same bits, values and points."""

    class Slow(noisy_class):  # type: ignore[misc]
        monitor = ("min", "loss")

    expected = aipcore.train(Slow, RESUMED, tmp_path / "whole", quiet=True)
    stopped = aipcore.Trainer.from_scenario(Slow, RESUMED, tmp_path / "stopped", quiet=True)
    stopped.callbacks["stop"] = Stopping(stopped, step, validation=validation)
    chunked(stopped, 1 if step == 17 else 5)
    assert stopped.fit().status == "interrupted"
    progress = read_checkpoint(newest_checkpoint(tmp_path / "stopped" / "checkpoint")).progress
    assert (progress["updates"], len(progress["validations"])) == (step, 3)
    result = aipcore.resume(tmp_path / "stopped", scenario=Slow, quiet=True)
    assert result.history == expected.history
    assert result.validations == expected.validations
    assert (result.best, result.best_step, result.status) == (expected.best, expected.best_step, expected.status)
    ends = [read_checkpoint(newest_checkpoint(tmp_path / name / "checkpoint")) for name in ("whole", "stopped")]
    assert all(np.array_equal(array, ends[1].arrays[name]) for name, array in ends[0].arrays.items())
    assert ends[0].progress["callbacks"] == {**ends[1].progress["callbacks"]}
    for run in ("train_steps", "validation_steps", "train"):
        assert points(tmp_path / "stopped", run) == points(tmp_path / "whole", run)


def test_resume_before_the_validation_that_stops_the_run(blobs_class: Any, tmp_path: Path) -> None:
    """A run that is stopped just before its last validation trains no further batch when it is resumed."""
    given = {**RESUMED, "learning_rate.lr": 1e-30, "early_stopping.n_to_go": 1, "callbacks": [], "trainer.calc_ema": 0}
    trainer = aipcore.Trainer.from_scenario(blobs_class, given, tmp_path / "run", quiet=True)
    trainer.callbacks["stop"] = Stopping(trainer, 10, validation=False)
    assert chunked(trainer, 2).fit().status == "interrupted"
    result = aipcore.resume(tmp_path / "run", scenario=blobs_class, quiet=True)
    assert (result.status, result.updates, len(result.validations)) == ("stopped", 10, 2)


@pytest.mark.slow
def test_no_doubled_points(noisy_class: Any, tmp_path: Path) -> None:
    """A run resumed from an older checkpoint, as after a kill, shows each point once."""
    params = {**RESUMED, "trainer.epochs": 4, "early_stopping.n_to_go": None, "checkpoint.every_steps": 10}
    trainer = aipcore.Trainer.from_scenario(noisy_class, params, tmp_path / "run", quiet=True)
    trainer.callbacks["wait"] = _Waiting(trainer)
    trainer.fit()
    before = {run: points(tmp_path / "run", run) for run in ("train_steps", "validation_steps", "train", "validation")}
    assert [step for step, _ in before["train_steps"]] == list(range(3, 53, 3))
    assert [step for step, _ in before["validation_steps"]] == [*range(5, 53, 5), 52]
    aipcore.resume(tmp_path / "run" / "checkpoint" / "step-0000000030", scenario=noisy_class, quiet=True)
    for run, expected in before.items():
        found = points(tmp_path / "run", run)
        assert max(Counter(step for step, _ in found).values()) == 1
        assert found == expected


class _Waiting(keras.callbacks.Callback):
    """Waits after each chunk for the checkpoint, so that none is postponed."""

    accepts_chunks = True

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trainer._run_writer.drain()


@pytest.mark.slow
def test_a_finished_run(blobs_class: Any, tmp_path: Path) -> None:
    """A run that ended within an epoch has nothing to resume, until it gets more updates."""
    params = {
        "trainer.max_steps": 17, "train.batch_size": 16, "trainer.random_seed": 7, "trainer.tune": "off",
        "learning_rate": "Constant", "trainer.val_every_steps": 17,
    }  # fmt: skip
    first = aipcore.train(blobs_class, params, tmp_path / "run", quiet=True)
    assert (first.epochs, first.updates, first.partial, len(first.history)) == (2, 17, True, 2)
    again = aipcore.resume(tmp_path / "run", scenario=blobs_class, quiet=True)
    assert (again.epochs, again.updates, again.history, again.best_step) == (2, 17, first.history, 17)
    assert again.model is None
    longer = aipcore.resume(tmp_path / "run", {"trainer.max_steps": 30}, scenario=blobs_class, quiet=True)
    straight = aipcore.train(blobs_class, {**params, "trainer.max_steps": 30}, tmp_path / "straight", quiet=True)
    assert longer.history == straight.history
    assert longer.validations == straight.validations
    assert [step for step, _ in points(tmp_path / "run", "validation_steps")] == [17, 30]
    for one, other in zip(longer.model.get_weights(), straight.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_changed_batch_size(make_trainer: Any, blobs_class: Any) -> None:
    """Updates count on over a change of the batch size, and the run ends after the same number of updates."""
    words = ("--trainer.max_steps", "40", "--checkpoint.keep", "9")
    first = make_trainer(blobs_class, *words, "--train.batch_size", "16", output="first", exports=False)
    first.fit()
    path = sorted((first.output_dir / "checkpoint").iterdir())[2]
    assert read_checkpoint(path).progress["updates"] == 26
    again = make_trainer(blobs_class, *words, "--train.batch_size", "40", output="again", exports=False)
    again.restore(path)
    result = again.fit()
    assert (result.updates, result.epochs, result.status) == (40, 2 + 3, "finished")


@pytest.mark.slow
def test_streams(make_trainer: Any, blobs_class: Any) -> None:
    """Steps work on an endless stream, whose epochs have the given number of samples."""

    class Endless(blobs_class):  # type: ignore[misc]
        def train_data(self) -> Any:
            def elements() -> Any:
                inputs, labels = super(Endless, self).train_data()
                while True:
                    yield from zip(inputs, labels, strict=True)

            return elements()

    recorded = Recording()
    words = ("--trainer.samples_per_epoch", "100", "--train.batch_size", "10", "--trainer.val_every_steps", "8",
             "--trainer.log_every_steps", "4", "--trainer.max_steps", "25")  # fmt: skip
    result = make_trainer(Endless, *QUICK, *words, reporter=recorded).fit()
    assert (result.epochs, result.updates) == (3, 25)
    assert [each["step"] for each in result.validations] == [8, 16, 24, 25]
    assert [each.step for each in recorded.steps] == [4, 8, 12, 16, 20, 24]


def test_plan_of_values_that_are_never_logged() -> None:
    """The plan shows that a run ends before its first logged update."""
    steps = Steps(batches=10, accumulate_steps=1, epochs=2, log=21)
    assert describe_steps(steps) == [("steps", "logged every 21 updates (never: the run has 20 updates)")]
    assert describe_steps(attrs.evolve(steps, log=20)) == [("steps", "logged every 20 updates")]
