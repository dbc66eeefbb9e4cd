"""Every metric of Keras, by name, class, instance and function, plain and weighted, against `Model.fit`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import parity_heads
import pytest
from parity_heads import CLASSES, SAMPLES, STEPS, Head, weights_of

from aipcore.errors import ScenarioError
from aipcore.scenario import Scenario
from aipcore.scenario.losses import Objective
from aipcore.scenario.metrics import metric_sets
from aipcore.scenario.replica_metrics import require_sums

metrics = keras.metrics

BY_NAME = {
    "numbers": (
        "mse", "mean_absolute_error", "mape", "mean_squared_logarithmic_error", "cosine_similarity", "log_cosh",
        "poisson", "kl_divergence",
    ),
    "binary": ("accuracy", "acc", "binary_accuracy", "binary_crossentropy", "bce", "hinge", "squared_hinge"),
    "one-hot": (
        "accuracy", "categorical_accuracy", "top_k_categorical_accuracy", "categorical_crossentropy",
        "categorical_hinge",
    ),
    "ids": (
        "accuracy", "sparse_categorical_accuracy", "sparse_categorical_crossentropy",
        "sparse_top_k_categorical_accuracy",
    ),
}  # fmt: skip
BY_CLASS = {
    "numbers": (
        metrics.MeanSquaredError, metrics.RootMeanSquaredError, metrics.MeanAbsoluteError, metrics.LogCoshError,
        metrics.CosineSimilarity, metrics.KLDivergence, metrics.Poisson, metrics.R2Score,
        metrics.MeanAbsolutePercentageError, metrics.MeanSquaredLogarithmicError, metrics.PearsonCorrelation,
        metrics.ConcordanceCorrelation,
    ),
    "binary": (
        metrics.BinaryAccuracy, metrics.BinaryCrossentropy, metrics.Precision, metrics.Recall, metrics.TruePositives,
        metrics.TrueNegatives, metrics.FalsePositives, metrics.FalseNegatives, metrics.Hinge, metrics.SquaredHinge,
    ),
    "one-hot": (
        metrics.CategoricalAccuracy, metrics.CategoricalCrossentropy, metrics.CategoricalHinge, metrics.F1Score,
        metrics.FBetaScore, metrics.AUC,
    ),
    "ids": (metrics.SparseCategoricalAccuracy, metrics.SparseCategoricalCrossentropy),
}  # fmt: skip


def instances(kind: str) -> list[Any]:
    """Return new metrics with options."""
    return {
        "numbers": [metrics.R2Score(class_aggregation=None), metrics.MeanAbsoluteError(name="mine")],
        "binary": [
            metrics.AUC(num_thresholds=50, name="auc"), metrics.Precision(thresholds=[0.3, 0.6], name="p"),
            metrics.BinaryIoU(name="iou"),
            metrics.SensitivityAtSpecificity(0.5, name="a"), metrics.SpecificityAtSensitivity(0.5, name="b"),
            metrics.PrecisionAtRecall(0.5, name="c"), metrics.RecallAtPrecision(0.5, name="d"),
        ],
        "one-hot": [
            metrics.F1Score(average=None), metrics.F1Score(average="macro"), metrics.TopKCategoricalAccuracy(2),
            metrics.OneHotIoU(CLASSES, [0, 2], name="x"), metrics.OneHotMeanIoU(CLASSES, name="y"),
            metrics.AUC(multi_label=True, name="z"),
        ],
        "ids": [
            metrics.MeanIoU(CLASSES, sparse_y_pred=False, name="x"),
            metrics.IoU(CLASSES, [1], sparse_y_pred=False, name="y"),
            metrics.SparseTopKCategoricalAccuracy(2),
        ],
    }[kind]  # fmt: skip


FUNCTIONS = {
    "numbers": [metrics.mean_squared_error, metrics.mean_absolute_error],
    "binary": [metrics.binary_accuracy],
    "one-hot": [metrics.categorical_accuracy],
    "ids": [metrics.sparse_categorical_accuracy],
}

UNITS = {"numbers": CLASSES, "binary": 1, "one-hot": CLASSES, "ids": CLASSES}


def classes(kind: str) -> list[Any]:
    """Return all classes to compare for targets of a kind, once each."""
    return list(dict.fromkeys([*BY_CLASS[kind], *(type(metric) for metric in instances(kind))]))


def of_outputs(shape: tuple[int, ...]) -> Any:
    """Return a loss for any target: the mean square of outputs of this shape, one per sample or position."""

    def loss(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.reshape(keras.ops.square(y_pred), (-1, *shape)), axis=-1)

    return loss


def heads() -> Iterator[Head]:
    """Yield a head per metric, of vectors and of sequences, with targets of equal and of lower rank."""
    for kind, names in BY_NAME.items():
        # Keras numbers default names across the whole process; see `test_classes_are_named_as_by_keras`.
        made = [cls(name="made") for cls in BY_CLASS[kind]]
        every = [*names, *made, *instances(kind), *FUNCTIONS[kind]]
        for place, metric in enumerate(every):
            for sequence in (False, True):
                yield Head(
                    name=f"{kind}-{place}-{'sequence' if sequence else 'vector'}",
                    loss=of_outputs((STEPS, UNITS[kind]) if sequence else (UNITS[kind],)),
                    sequence=sequence, units=UNITS[kind], activation="softmax" if UNITS[kind] > 1 else "sigmoid",
                    target=target(kind, sequence, "int32" if place % 2 else "float32", lower=bool(place % 3)),
                    metrics=[metric],
                )  # fmt: skip


def target(kind: str, sequence: bool, dtype: str, *, lower: bool) -> Any:
    """Return targets of a kind; `lower` omits a last axis of size 1, where possible."""
    draw = np.random.default_rng(4)
    lead = (SAMPLES, STEPS) if sequence else (SAMPLES,)
    if kind == "numbers":
        return draw.integers(1, 4, (*lead, CLASSES)).astype(dtype)
    if kind == "one-hot":
        return np.eye(CLASSES)[draw.integers(0, CLASSES, lead)].astype(dtype)
    ids = draw.integers(0, 2 if kind == "binary" else CLASSES, lead).astype(dtype)
    return ids if lower else ids[..., None]


def accepted(head: Head, weights: Any) -> bool:
    """Return True if Keras accepts the head's targets and weights with this metric."""
    output = np.full((6, STEPS, head.units) if head.sequence else (6, head.units), 1 / 3, "float32")
    compiled = keras.src.trainers.compile_utils.CompileMetrics(parity_heads.fresh(head.metrics), None)
    try:
        compiled.update_state(head.target[:6], output)
        for metric in compiled.metrics:
            metric.update_state(head.target[:6], output, None if weights is None else weights[head.name][:6])
            if np.ndim(metric.result()) > 1:
                return False
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("masked", "weighted", "part"),
    [
        pytest.param(False, False, 1, id="plain", marks=pytest.mark.slow),
        pytest.param(True, True, 1, id="masked and weighted", marks=pytest.mark.slow),
        pytest.param(True, True, 10, id="a part, masked and weighted"),
    ],
)
def test_metrics(make_trainer: Any, masked: bool, weighted: bool, part: int, capsys: Any) -> None:
    """All metrics, plain and weighted, have the values and names of Keras' history; by default a random part."""
    every = list(heads())
    random.Random(0).shuffle(every)
    every = every[::part]
    weights = weights_of(every) if weighted else None
    chosen = [head for head in every if accepted(head, weights)]
    parity_heads.compare(make_trainer, chosen, masked=masked, weights=weights)
    with capsys.disabled():
        print(f" [{len(chosen)} of {len(every)} combinations]", end="")
    assert len(chosen) > 60 / part


class Scored(Scenario):
    """A scenario of three classes and three features."""

    monitor = ("max", "f1_score_1")
    given: Any = ()

    def train_data(self) -> Any:
        return np.random.default_rng(0).normal(size=(32, 3)), np.eye(3, dtype="float32")[np.arange(32) % 3]

    def val_data(self) -> Any:
        return self.train_data()

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(3, activation="softmax")(inputs)

    def losses(self) -> Any:
        return "categorical_crossentropy"

    def metrics(self) -> Any:
        return [metrics.F1Score(average=None), metrics.categorical_accuracy]


def test_a_vector_has_a_value_per_class(make_trainer: Any) -> None:
    """The value of a single class can be monitored by its name."""
    result = make_trainer(Scored).fit()
    assert {"f1_score_0", "f1_score_1", "f1_score_2", "categorical_accuracy"} <= result.history[0].keys()
    assert result.monitor == "val_f1_score_1"


def test_classes_are_named_as_by_keras(make_trainer: Any) -> None:
    """Metrics given as classes or without a name have the names in Keras' history of a first run."""

    class Classes(Scored):
        monitor = ("max", "auc")

        def metrics(self) -> Any:
            return [metrics.AUC, metrics.Precision, metrics.F1Score, "accuracy", metrics.TruePositives()]

        def weighted_metrics(self) -> Any:
            return ["accuracy", metrics.Recall]

    trainer = make_trainer(Classes, "--trainer.epochs", "1")
    logs = trainer.fit().history[0]
    keras.utils.clear_session(free_memory=False)
    x, y = trainer.scenario.train_data()
    model = keras.models.clone_model(trainer.model)
    model.compile(loss="mse", metrics=trainer.scenario.metrics(), weighted_metrics=trainer.scenario.weighted_metrics())
    names = {name for name, _ in parity_heads.numbers(model.evaluate(x, y, verbose=0, return_dict=True))}
    assert names == {name for name in logs if not name.startswith("val_")} - {"learning_rate"}


def test_metrics_without_a_name(make_trainer: Any) -> None:
    """Keras numbers objects without a name; training and validation still use the same name."""

    class Share(metrics.Mean):
        def __init__(self) -> None:
            keras.metrics.Metric.__init__(self)
            self.total = self.add_variable((), "zeros", name="total")
            self.count = self.add_variable((), "zeros", name="count")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            super().update_state(y_pred[:, 0])

    class Unnamed(Scored):
        monitor = ("min", "loss")

        def metrics(self) -> Any:
            return [Share()]

    logs = make_trainer(Unnamed).fit().history[0]
    assert {"share", "val_share"} <= logs.keys()


@pytest.mark.parametrize(
    "given",
    [
        lambda: [metrics.MeanSquaredError(name="loss")],
        lambda: ["no_such_metric"],
        lambda: ["mse", keras.ops.matmul],
    ],
)
def test_what_is_refused(make_trainer: Any, given: Any, refused: Any) -> None:
    """An unsupported metric is named before the first epoch."""
    wrong = type("Wrong", (Scored,), {"metrics": lambda _: given(), "monitor": ("min", "loss")})
    with refused(ScenarioError):
        make_trainer(wrong)


def test_the_same_metric_twice_is_refused(make_trainer: Any, refused: Any) -> None:
    """One object for two metrics would count training and validation together and is refused."""
    one = metrics.CategoricalAccuracy()
    wrong = type("Wrong", (Scored,), {"metrics": lambda _: [one], "monitor": ("min", "loss")})
    with refused(ScenarioError):
        make_trainer(wrong)


class Largest(metrics.Metric):
    """A metric of the largest output."""

    def __init__(self) -> None:
        super().__init__(name="largest")
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_pred)))

    def result(self) -> Any:
        return self.value


def test_a_state_that_cannot_be_summed_is_refused_on_replicas(refused: Any) -> None:
    """Replicas sum the states of metrics, which is wrong for a maximum and refused."""
    outputs = keras.ops.convert_to_tensor(np.random.default_rng(0).uniform(1, 2, (6, 3)).astype("float32"))
    example = {"": keras.ops.convert_to_tensor(np.eye(3, dtype="float32")[[0, 1, 2] * 2])}, {"": outputs}, {}

    def factory(*given: Any) -> Any:
        scenario = type("Given", (Scored,), {"metrics": lambda _: [each() for each in given]})(None)
        return metric_sets(scenario, [""], [""], Objective(scenario, [""], [""]), {}, example)

    require_sums(factory(metrics.AUC, metrics.F1Score, metrics.R2Score, metrics.CategoricalAccuracy))
    with refused(ScenarioError):
        require_sums(factory(metrics.AUC, Largest))
