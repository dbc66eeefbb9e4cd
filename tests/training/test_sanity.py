"""Errors that are found before the first epoch, with the sample that causes them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.errors import DataError, ScenarioError, TrainingError
from aipcore.scenario import Evaluator, Sample, Scenario


class Points(Scenario):
    """A scenario with 12 samples of 3 numbers."""

    x = np.ones((12, 3), np.float32)
    y: Any = np.zeros(12, np.int32)
    units = 2
    loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def train_data(self) -> Any:
        return self.x, self.y

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(self.units)(inputs)

    def losses(self) -> Any:
        return self.loss


def points(**attributes: Any) -> type[Scenario]:
    """Return `Points` with other attributes."""
    return type("Points", (Points,), attributes)


def with_value(array: Any, index: int, value: Any) -> Any:
    """Return a copy with one sample changed."""
    copy = np.array(array)
    copy[index] = value
    return copy


CASES = {
    "input": points(x=with_value(Points.x, 7, np.nan)),
    "class": points(y=with_value(Points.y, 9, 2)),
    "negative class": points(y=with_value(Points.y, 3, -1)),
    "shape": points(loss="mean_squared_error", y=np.zeros((12, 1), np.float32)),
    "loss": points(loss=staticmethod(lambda t, p: keras.ops.log(keras.ops.cast(t, "float32")) + 0 * p[:, 0])),
}


def test_one_output_unit(make_trainer: Any) -> None:
    """A model with one unit has one class."""
    with pytest.raises(DataError, match="the target 1, but the model has 1 output unit, so only class 0 is possible"):
        make_trainer(points(y=with_value(Points.y, 9, 1), units=1))


def test_names_for_a_bare_output(make_trainer: Any) -> None:
    """A loss by name for an output without a name is refused, with both ways to fix it."""
    with pytest.raises(ScenarioError, match=r"Return the value without a name, or return \{'logit': ...\} from build"):
        make_trainer(points(loss={"logit": "mean_squared_error"}))


@pytest.mark.parametrize("case", CASES)
def test_the_sample_is_named(make_trainer: Any, case: str, refused: Any) -> None:
    """One sentence names the sample and its fault."""
    with refused(DataError):
        make_trainer(CASES[case])


def test_validation_data_is_looked_at_too(make_trainer: Any, refused: Any) -> None:
    """Validation data is checked too, since a bad sample in it would spoil the choice of the best epoch."""

    class Validated(Points):
        def val_data(self) -> Any:
            return with_value(self.x, 2, np.inf), self.y

    with refused(DataError):
        make_trainer(Validated)


def test_samples_of_varying_size(make_trainer: Any, refused: Any) -> None:
    """Samples that are not stacked are checked too."""

    class Lines(Points):
        def train_data(self) -> Any:
            for length in (2, 4, 3):
                yield Sample(inputs=np.full((length, 3), np.nan if length == 4 else 1.0, np.float32), targets=0)

        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(inputs))

    with refused(DataError):
        make_trainer(Lines)


def test_ignored_class_is_allowed(make_trainer: Any) -> None:
    """An ignored class needs no output."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    make_trainer(points(y=with_value(Points.y, 3, -1), loss=loss))


def test_trailing_ones_are_allowed(make_trainer: Any) -> None:
    """Targets of shape [batch] fit outputs of shape [batch, 1], since Keras aligns them."""
    make_trainer(points(loss="mean_squared_error", y=np.zeros(12, np.float32), units=1))


def test_can_be_skipped(make_trainer: Any) -> None:
    """skip_sanity_check skips the check."""
    make_trainer(CASES["input"], "--trainer.skip_sanity_check")


def test_a_model_that_cannot_be_exported_is_found(make_trainer: Any, refused: Any) -> None:
    """The serving function is traced before the first epoch, so that a model without a valid export is found."""

    class OnlyTrains(keras.layers.Layer):  # type: ignore[misc]
        def compute_output_shape(self, shape: Any) -> Any:
            return shape

        def call(self, inputs: Any, training: bool = False) -> Any:
            if not training and not hasattr(inputs, "numpy"):
                raise ValueError("no inference here")
            return inputs

    class Odd(Points):
        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(2)(OnlyTrains()(inputs))

    with refused(ScenarioError):
        make_trainer(Odd, output="out")


@pytest.mark.slow
def test_changes_nothing(make_trainer: Any, noisy_class: Any) -> None:
    """A run with the check is bit-identical to one without."""
    ends = []
    for words in ((), ("--trainer.skip_sanity_check",)):
        trainer = make_trainer(noisy_class, *words, output="with" if words else "without")
        trainer.fit()
        ends.append(trainer.state.variables.read())
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name], err_msg=name)


class Uncountable(Evaluator):
    """An evaluator that fails on every update."""

    def update(self, targets: Any, outputs: Any, meta: Any) -> None:
        raise KeyError("no such column")

    def result(self) -> dict[str, float]:
        return {}


def test_metrics_that_do_not_fit_are_named(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """Metrics that fail are named before the first epoch, with the shapes of their arguments."""

    class Wrong(blobs_class):  # type: ignore[misc]
        def metrics(self) -> Any:
            return [*super().metrics(), keras.metrics.MeanIoU(num_classes=2, name="iou")]

    with refused(ScenarioError):
        make_trainer(Wrong)


def test_evaluators_that_fail_are_named(make_trainer: Any, blobs_class: Any) -> None:
    """Failing evaluators are found only if LAV is on, since it is their only user."""

    class Wrong(blobs_class):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return Uncountable()

    with pytest.raises(ScenarioError, match="The evaluator Uncountable of Wrong fails on the first batch: KeyError"):
        make_trainer(Wrong, "--trainer.lav_every_n", "1")
    make_trainer(Wrong)


def test_evaluator_arguments_are_checked(make_trainer: Any, blobs_class: Any) -> None:
    """A wrong signature is found before training even without LAV, not by `aip lav` afterwards."""

    class Short(Uncountable):
        def update(self, targets: Any, outputs: Any) -> None:  # type: ignore[override]
            pass

    class Wrong(blobs_class):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return Short()

    with pytest.raises(ScenarioError, match=r"Write def update\(self, targets, outputs, meta\)"):
        make_trainer(Wrong)


def test_evaluators_must_give_numbers(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """A result that is a string is named."""

    class Words(Uncountable):
        def update(self, targets: Any, outputs: Any, meta: Any) -> None:
            pass

        def result(self) -> Any:
            return {"share": "half"}

    class Wrong(blobs_class):  # type: ignore[misc]
        def evaluator(self) -> Evaluator:
            return Words()

    with refused(ScenarioError):
        make_trainer(Wrong, "--trainer.lav_every_n", "1")


def test_a_first_step_that_explodes_ends_the_run(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """A loss that is not finite after the first batches is an error with advice, unless checks are off."""

    class Squares(blobs_class):  # type: ignore[misc]
        def train_data(self) -> Any:
            points, _ = super().train_data()
            return points, points[:, :4]

        def val_data(self) -> None:
            return None

        def losses(self) -> Any:
            return "mean_squared_error"

        def metrics(self) -> Any:
            return []

        monitor = ("min", "loss")

    words = ("--optimizer", "SGD", "--learning_rate.lr", "1e30", "--trainer.epochs", "1")
    with refused(TrainingError):
        # Measuring comes first, before the run folder is created.
        make_trainer(Squares, *words).compile()
    make_trainer(Squares, *words, "--trainer.skip_sanity_check").fit()
