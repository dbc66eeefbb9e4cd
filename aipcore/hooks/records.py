"""Plugin records, and the parameters common to all plugins of a kind. Nothing here imports an implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import attrs
import pluggy

from aipcore.params import above, field, params

PROJECT: Final = "aip"
"""Name of the pluggy project and of the entry-point group, and prefix of all hooks."""

API_VERSION: Final = 1
"""Major version of the hooks and records. A plugin can declare its version: `AIP_API = 1` in its module."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marker of hook specifications, used only in `specs`."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marker of a plugin's function as the implementation of the hook with the same name."""


@params
class OptimizerParams:
    """Parameters of every optimizer.

    The training loop clips the gradient of a whole optimizer update, before the optimizer step. Several kinds of
    clipping are applied in the order of these fields.
    """

    clip_value: float | None = field(
        None,
        help="Largest absolute value of a gradient element. Larger elements are clipped. Disabled if none.",
        check=above(0),
    )
    clip_norm: float | None = field(
        None,
        help="Largest L2 norm of the gradient of each variable. Larger gradients are scaled down. Disabled if none.",
        check=above(0),
    )
    clip_global_norm: float | None = field(
        None,
        help="Largest joint L2 norm of all gradients. Larger gradients are scaled down together. Disabled if none.",
        check=above(0),
    )


@params
class ScheduleParams:
    """Parameters of every learning-rate schedule. A schedule counts optimizer updates, not micro-batches."""

    lr: float = field(0.001, help="Initial or peak learning rate of the schedule.", check=above(0))
    offset_epochs: float = field(
        0.0,
        help="Epochs by which the schedule is shifted. The rate of epoch e is that of epoch e - offset_epochs. Above "
        "0, the schedule begins later and keeps its initial rate until then. Below 0, its first epochs are skipped. It "
        "is rounded to whole optimizer updates.",
    )


@params
class CallbackParams:
    """Parameters of every callback."""

    def check(self) -> None:
        """Check the requirements of the parameters, such as a package, before TensorFlow is imported.

        Raises:
            UsageError: a requirement is missing.
        """


@params
class ExporterParams:
    """Parameters of every exporter."""


Reference = str
"""A string `"package.module:attribute"`, imported on first use."""


def as_reference(value: Reference | Callable[..., Any]) -> Reference:
    """Return the reference of a function, a class or a command; a reference is returned unchanged."""
    # A click command replaces its function in the module.
    target = value if hasattr(value, "__qualname__") else getattr(value, "callback", value)
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if isinstance(value, str) or not callable(value) or not isinstance(module, str) or not isinstance(name, str):
        return value  # type: ignore[return-value] # reported with the plugin, when its records are checked
    return f"{module}:{name}"


def _as_tolerance(value: float | Reference | Callable[..., Any]) -> float | Reference:
    return as_reference(value) if callable(value) else value


@attrs.frozen(kw_only=True)
class PluginRecord:
    """Common description of a plugin of any kind.

    Attributes:
        name: name typed by users, compared without case, `-` and `_`; unique within its kind.
        summary: one sentence for `aip plugins list`.
        build: callable that builds the object, as `"module:attribute"` or, in a plugin file, the callable itself; its
            signature depends on the kind.
        docs: address or file of further documentation; by default the docstring of `build`.
    """

    kind: ClassVar[str]
    name: str
    summary: str
    build: Reference = attrs.field(converter=as_reference)
    docs: str | None = None


@attrs.frozen(kw_only=True)
class OptimizerRecord(PluginRecord):
    """An optimizer. `build(params, learning_rate)` returns a `keras.optimizers.Optimizer`.

    `learning_rate` is a float or a `keras.optimizers.schedules.LearningRateSchedule`.
    """

    kind: ClassVar[str] = "optimizer"
    params: type | Reference


@attrs.frozen(kw_only=True)
class ScheduleRecord(PluginRecord):
    """A learning-rate schedule. `build(params, horizon)` returns a `keras.optimizers.schedules.LearningRateSchedule`.

    `horizon` is an `aipcore.training.engine.learning_rate.Horizon` with the optimizer updates per epoch and the epochs.
    aip applies `offset_epochs`: `params.offset_epochs` is 0 in `build`, and `horizon` is the run after the offset.
    """

    kind: ClassVar[str] = "schedule"
    params: type | Reference


@attrs.frozen(kw_only=True)
class ScenarioRecord(PluginRecord):
    """A scenario. `build` names the `aipcore.scenario.Scenario` subclass, whose `params_class` are the parameters.

    The module of the class must not import TensorFlow or Keras at module level.
    """

    kind: ClassVar[str] = "scenario"


@attrs.frozen(kw_only=True)
class CallbackRecord(PluginRecord):
    """A training callback. `build(params, context)` returns a `keras.callbacks.Callback`.

    `context` is an `aipcore.training.callbacks.context.RunContext`: run folder, monitored value, schedule control.
    """

    kind: ClassVar[str] = "callback"
    params: type | Reference


@attrs.frozen(kw_only=True)
class ExporterRecord(PluginRecord):
    """A model exporter. `build(params)` returns a callable `export(model, path)` that writes the model at `path`.

    Attributes:
        suffix: suffix of the exported file; empty if the exporter writes a directory.
        load: reference to a function that reads the export: `load(folder)` returns a function from NumPy arrays by
            input name to NumPy arrays by output name. The names are those of the serving signature (`inputs` and
            `outputs` for a single unnamed input or output). aip uses it to compare the export with the model. None if
            this is not possible.
        tolerance: largest allowed difference from an output of the model, relative to the largest absolute value of the
            output or to 1 if that is greater; or `"module:function"`, a function from the exporter's parameters to it.
        packages: import names of the packages that the exporter requires.
        install: argument of `pip install` for a missing package.
    """

    kind: ClassVar[str] = "exporter"
    params: type | Reference
    suffix: str = ""
    load: Reference | None = attrs.field(default=None, converter=attrs.converters.optional(as_reference))
    tolerance: float | Reference = attrs.field(default=1e-4, converter=_as_tolerance)
    packages: tuple[str, ...] = ()
    install: str = ""


@attrs.frozen(kw_only=True)
class WriterRecord(PluginRecord):
    """A writer of predictions. `build` names a function `write(path, predictions, about)`.

    `predictions` is an iterator of `aipcore.prediction.Prediction`, which the writer must exhaust. The predictions are
    computed while it is read. `about` is the record of the model: scenario, parameters, versions. The writer creates
    `path`, a file or a new folder. An `OSError` is reported as a path that cannot be written.

    Attributes:
        suffix: end of the file name that selects the writer, such as `.csv` or `.coco.json`. The longest match counts.
        targets: True if the writer also writes targets and raw outputs, as `--targets` requires.
        packages: import names of the packages that the writer requires.
        install: argument of `pip install` for a missing package.
    """

    kind: ClassVar[str] = "writer"
    suffix: str
    targets: bool = False
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
    WriterRecord,
    CommandRecord,
)
