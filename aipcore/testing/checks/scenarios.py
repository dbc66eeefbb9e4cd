"""Checks of scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.params.names import count
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import CheckSkippedError, require
from aipcore.testing.subject import Subject

if TYPE_CHECKING:
    from aipcore.scenario import Scenario
    from aipcore.training.trainer import Trainer

MADE = ("is_a_scenario", "parameters_can_be_created")
FITS = ("data_fits_the_model",)


def _scenario(subject: Subject) -> Scenario:
    from aipcore.testing.scenario_data import made_scenario

    return made_scenario(subject, subject.build)  # type: ignore[arg-type]


def _short_run(subject: Subject, cls: Any, values: Mapping[str, Any]) -> Trainer:
    """Return a run as set up by `aip train`, on few samples, with Keras' Adam at a constant learning rate."""
    import keras

    from aipcore.testing.scenario_data import SEED, made_scenario
    from aipcore.training.setup import RunComponents
    from aipcore.training.trainer import Trainer

    off = ("trainer.export_best", "trainer.export_final", "trainer.write_checkpoints")
    # `data_fits_the_model` has already run the model on the first samples.
    fixed = {"trainer.random_seed": SEED, "trainer.jit_compile": "off", "trainer.skip_sanity_check": True}
    scenario = made_scenario(subject, cls, {**dict.fromkeys(off, False), **fixed, **values})
    rate = subject.declared.learning_rate
    parts = RunComponents(
        schedule=lambda _: keras.optimizers.schedules.ExponentialDecay(rate, 1000, 1.0), optimizer=keras.optimizers.Adam
    )
    return Trainer(scenario, scenario.params, name=subject.name, parts=parts, output_dir=None)


def _few(subject: Subject) -> int:
    """Return the number of samples of a short epoch: two full batches and a partial one."""
    size: int = _scenario(subject).params.train.batch_size
    return 2 * size + max(1, size // 2)


@attrs.frozen
class _Epoch:
    """A run of one short epoch.

    Attributes:
        monitor: name of the monitored value.
        logs: values of the epoch.
        begin: initial weights.
        end: weights after the epoch.
    """

    monitor: str
    logs: Mapping[str, float]
    begin: list[bytes]
    end: list[bytes]


def _epoch(subject: Subject) -> _Epoch:
    """Train a short epoch, with LAV."""
    few = {"trainer.epochs": 1, "trainer.lav_every_n": 1, "trainer.samples_per_epoch": _few(subject)}
    trainer = _short_run(subject, subject.build, few)
    begin = _weights(trainer)
    logs = trainer.fit().history[-1]
    return _Epoch(trainer.state.monitor.name, logs, begin, _weights(trainer))


def _first_epoch(subject: Subject) -> _Epoch:
    """Return the epoch that two checks share."""
    return subject.shared("epoch", lambda _: _epoch(subject))


@conformance_check("scenario", light=True)
def is_a_scenario(subject: Subject) -> None:
    """`build` names a subclass of `aipcore.scenario.Scenario`, and its defaults are valid parameters of a run."""
    from aipcore.params import Layer, resolve
    from aipcore.scenario import Scenario
    from aipcore.scenario.updates import updates_of
    from aipcore.training.params import run_params_class

    cls: Any = subject.build
    require(
        isinstance(cls, type) and issubclass(cls, Scenario),
        f"build names {cls!r}: name a class that extends aipcore.scenario.Scenario",
    )
    layers = [Layer.from_mapping("defaults", cls.defaults), Layer.from_mapping("declared", subject.declared.params)]
    resolve(run_params_class(cls.params_class, updates_of(cls)), layers, subject.manager)


@conformance_check("scenario", needs=MADE)
def data_is_reproducible(subject: Subject) -> None:
    """Equal parameters give equal data, from a second call as well as from a second scenario."""
    import numpy as np

    from aipcore.testing.scenario_data import dataset_of

    first = _scenario(subject)
    for part in ("train", "val"):
        datasets = [dataset_of(scenario, part) for scenario in (first, first, _scenario(subject))]
        if datasets[0] is None:
            continue
        indices = np.arange(min(len(datasets[0]), 64))
        for other in datasets[1:]:
            size = 0 if other is None else len(other)
            require(size == len(datasets[0]), f"{part}_data() returns {len(datasets[0])} samples, then {size}")
            assert other is not None
            for ours, theirs in zip(datasets[0].batch(indices).sides, other.batch(indices).sides, strict=True):
                same = all(name in theirs and _same_values(ours[name], theirs[name]) for name in ours)
                require(same, f"a second call of {part}_data() returns other samples: seed its random generators")


def _same_values(ours: Any, theirs: Any) -> bool:
    """Return True if arrays are equal. NaN, a missing number, equals itself."""
    if ours.shape != theirs.shape:
        return False
    return bool(((ours == theirs) | ((ours != ours) & (theirs != theirs))).all())  # noqa: PLR0124


@conformance_check("scenario", needs=MADE)
def data_fits_the_model(subject: Subject) -> None:
    """Model and losses accept the data. Validation data has the names, shapes and dtypes of the training data."""
    from aipcore.scenario.losses import Objective
    from aipcore.scenario.model import build_graph, symbolic_targets_and_outputs
    from aipcore.testing.scenario_data import adapted_data
    from aipcore.training.sanity import check_data, check_first_losses, check_targets

    scenario = _scenario(subject)
    _, train, val = adapted_data(scenario)
    assert train is not None
    if val is not None:
        sides = zip(("input", "target"), train.specs()[:2], val.specs()[:2], strict=True)
        for side, ours, theirs in sides:
            for name in ours.keys() | theirs.keys():
                _alike(f"{side} {name!r}" if name else side, ours.get(name), theirs.get(name))
    graph = build_graph(scenario, train)
    objective = Objective(scenario, graph.outputs, list(train.specs()[1]))
    objective.resolve(*symbolic_targets_and_outputs(graph, train))
    # For a dataset that is too large to keep, only the samples read for its specs.
    known = train.known()
    check_data(known, "train_data()")
    check_targets(objective, graph, known, "train_data()")
    check_first_losses(objective, graph, known, "train_data()", scenario.params.train.batch_size)


def _alike(what: str, ours: Any, theirs: Any) -> None:
    require(ours is not None and theirs is not None, f"train_data() and val_data() do not both have the {what}")
    require(ours.dtype == theirs.dtype, f"the {what} is {ours.dtype} in train_data(), {theirs.dtype} in val_data()")
    sizes = zip(ours.shape, theirs.shape, strict=False)
    fits = len(ours.shape) == len(theirs.shape) and all(a == b or None in (a, b) for a, b in sizes)
    require(fits, f"the {what} of a sample has shape {ours.shape} in train_data(), {theirs.shape} in val_data()")


@conformance_check("scenario", needs=FITS)
def monitor_exists(subject: Subject) -> None:
    """After an epoch the monitored value exists and is a number. The evaluator, if any, reports results too."""
    import math

    epoch = _first_epoch(subject)
    require(epoch.monitor in epoch.logs, f"{epoch.monitor} is not among the values {', '.join(epoch.logs)}")
    value = epoch.logs[epoch.monitor]
    require(math.isfinite(value), f"{epoch.monitor} is {value} after one epoch")


@conformance_check("scenario", needs=("monitor_exists", "data_is_reproducible"))
def runs_are_reproducible(subject: Subject) -> None:
    """Two runs with the same seed have bit-identical weights at the start and after an epoch."""
    from aipcore.testing.isolation import start_anew

    first = _first_epoch(subject)
    # A run must not depend on the state of the generators before it.
    start_anew(seed=8)
    second = _epoch(subject)
    require(
        first.begin == second.begin, "the initial weights differ: build() uses random values without the seed of Keras"
    )
    require(first.end == second.end, "the weights after an epoch differ")


def _weights(trainer: Trainer) -> list[bytes]:
    return [variable.numpy().tobytes() for variable in trainer.model.trainable_variables]


@conformance_check("scenario", needs=("monitor_exists", "data_is_reproducible"))
def overfits_a_few_samples(subject: Subject) -> None:
    """Overfitting a few samples reduces the loss to the fraction `overfit` of its initial value in `steps` updates."""
    from aipcore.data.adapters import first_samples

    declared = subject.declared
    original: Any = subject.build

    class Few(original):  # type: ignore[misc]
        """The scenario restricted to its first samples."""

        def train_data(self) -> Any:
            """Return the first samples."""
            return first_samples(super().train_data(), declared.samples)

        def val_data(self) -> Any:
            """Return the same samples, for a loss without dropout."""
            return self.train_data()

        def lav_data(self) -> Any:
            """Return only the same samples."""
            return None

    # A sample that occurs twice in a batch takes time, and changes nothing.
    size = min(_scenario(subject).params.train.batch_size, declared.samples)
    few = {"trainer.epochs": 1, "trainer.samples_per_epoch": size * declared.steps, "train.batch_size": size}
    trainer = _short_run(subject, Few, few)
    assert trainer.engine.validation is not None
    before = trainer.engine.validation.run()["loss"]
    trainer.fit()
    after = trainer.engine.validation.run()["loss"]
    require(
        after <= declared.overfit * before,
        f"the loss of {count(declared.samples, 'sample')} falls only from {before:.3g} to {after:.3g} in "
        f"{declared.steps} updates of Adam at {declared.learning_rate}: declare suitable samples, steps, "
        "learning_rate or overfit",
    )


@conformance_check("scenario", needs=FITS)
def exports(subject: Subject) -> None:
    """A reloaded SavedModel of the model and its further graphs gives equal outputs for batches of 1 and 3 samples."""
    from aipcore.scenario.model import build_graph, further_graphs
    from aipcore.scenario.preprocessing import with_preprocessing
    from aipcore.testing.scenario_data import adapted_data, dataset_of
    from aipcore.training.export.formats import Format
    from aipcore.training.export.saved_model import SIGNATURE, Exportable
    from aipcore.training.export.verify import load_signature, some_batches
    from aipcore.training.export.writer import ModelWriter

    scenario = _scenario(subject)
    dataset = dataset_of(scenario, "train")
    if dataset is None or len(dataset) < 3:
        raise CheckSkippedError("there are fewer than 3 samples")
    preprocessing, train, _ = adapted_data(scenario)
    assert train is not None
    graph = build_graph(scenario, train)

    def export(exportable: Exportable, folder: Path) -> None:
        exportable.save_model(folder)

    form = Format(write=export, read=partial(load_signature, SIGNATURE))
    further = further_graphs(scenario, graph)
    writer = ModelWriter(
        with_preprocessing(graph, preprocessing),
        {"SavedModel": form},
        {},
        further={name: with_preprocessing(each, preprocessing) for name, each in further.items()},
        batches=lambda: some_batches(dataset),
    )
    writer.write(subject.folder / "model", compare=True)
