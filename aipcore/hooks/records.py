"""What a plugin hands to aip: small frozen records that name the real thing without importing it."""

from __future__ import annotations

from typing import ClassVar

import attrs

Reference = str
"""`"package.module:attribute"`, imported only when it is used."""


@attrs.frozen(kw_only=True)
class PluginRecord:
    """What every kind of plugin says of itself.

    Attributes:
        name: what the user types, compared without case, `-` and `_`. Unique within its kind.
        summary: one sentence for `aip plugins list`.
        build: the callable that makes the real thing, as `"module:attribute"`; its signature depends on the kind.
        docs: address or file of further documentation; by default the docstring of what `build` names.
    """

    kind: ClassVar[str]
    name: str
    summary: str
    build: Reference
    docs: str | None = None


@attrs.frozen(kw_only=True)
class OptimizerRecord(PluginRecord):
    """An optimizer. `build(params, learning_rate)` returns a `keras.optimizers.Optimizer`.

    `learning_rate` is what Keras takes: a float or a `keras.optimizers.schedules.LearningRateSchedule`.
    """

    kind: ClassVar[str] = "optimizer"
    params: type | Reference


@attrs.frozen(kw_only=True)
class ScheduleRecord(PluginRecord):
    """A learning-rate schedule. `build(params, horizon)` returns a `keras.optimizers.schedules.LearningRateSchedule`.

    `horizon` is an `aipcore.training.horizon.Horizon`: optimizer updates per epoch, and epochs.
    """

    kind: ClassVar[str] = "schedule"
    params: type | Reference


@attrs.frozen(kw_only=True)
class ScenarioRecord(PluginRecord):
    """A scenario. `build` names the `aipcore.scenario.Scenario` subclass, whose `params_class` are the parameters.

    The module that holds the class must import neither TensorFlow nor Keras at its top.
    """

    kind: ClassVar[str] = "scenario"


@attrs.frozen(kw_only=True)
class CallbackRecord(PluginRecord):
    """A training callback. `build(params, context)` returns a `keras.callbacks.Callback`.

    `context` is an `aipcore.training.context.RunContext`: output directory, monitored value, schedule control.
    """

    kind: ClassVar[str] = "callback"
    params: type | Reference


@attrs.frozen(kw_only=True)
class ExporterRecord(PluginRecord):
    """A model exporter. `build(params)` returns a callable `export(model, path)` that writes the model at `path`.

    Attributes:
        suffix: what the exporter's file name ends in; empty if it writes a directory.
        load: how to read back what it wrote: `load(folder)` returns a function from NumPy arrays by input name to
            NumPy arrays by output name, the names being those of the serving signature (`inputs` and `outputs` where
            the model has one without a name). What was written is compared with the model through it. None if this is
            not possible.
        tolerance: how far an output may be from the model's, relative to the largest of its numbers or to 1 if that is
            more; or `"module:function"`, a function from the exporter's parameters to that.
        packages: what must be importable to export, by import name.
        install: what to give to `pip install` if one of them is missing.
    """

    kind: ClassVar[str] = "exporter"
    params: type | Reference
    suffix: str = ""
    load: Reference | None = None
    tolerance: float | Reference = 1e-4
    packages: tuple[str, ...] = ()
    install: str = ""


@attrs.frozen(kw_only=True)
class CommandRecord(PluginRecord):
    """A subcommand of `aip`. `build` names a `click.Command`."""

    kind: ClassVar[str] = "command"


RECORD_TYPES: tuple[type[PluginRecord], ...] = (
    OptimizerRecord,
    ScheduleRecord,
    ScenarioRecord,
    CallbackRecord,
    ExporterRecord,
    CommandRecord,
)
