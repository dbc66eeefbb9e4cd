"""The base class of scenarios: data, model, losses and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from aipcore.data.processor import AnyProcessor, PostProcessor
from aipcore.data.sample import DeclaredSpecs, Sample
from aipcore.errors import ScenarioError
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.summaries import Summary
from aipcore.scenario.updates import AnyUpdate

LOSSES = ("losses", "loss_values", "updates")
"""The members of which a scenario defines one."""


class Scenario:
    """A unit of work: data, a model, its losses and metrics.

    A scenario must define `train_data`, `build` and one of `losses`, `loss_values` and `updates`. Its module should
    import TensorFlow, Keras and NumPy inside the methods that need them, so that `--help` stays fast.

    Inputs, targets and outputs are each either one array (or tensor) or a mapping from name to array. Losses and
    metrics follow the outputs: one loss for one output, or a mapping by output name; a loss or metric of output `x`
    compares it with target `x`, or with the only target.

    Attributes:
        params_class: the parameters, a subclass of `ScenarioParams`.
        defaults: values that override the general defaults, by dotted path: `{"trainer.epochs": 20}`.
        monitor: the direction ("min" or "max") and the name of the validation value that determines the best model.
        summary_samples: the most validation samples passed to `summaries`.
        padding: the padding values of batches of varying shapes, by the name of the input or target ("inputs" or
            "targets" for a bare array); default 0.
        updates: the updates of each step, in order, in place of one update of all weights: `Update`s with losses of
            their own, and `TargetNetwork`s.
        fixed: dotted paths of parameters that belong to the model besides `model`, such as `data.classes`. They cannot
            change when a run is resumed or a model is applied.
    """

    params_class: ClassVar[type[ScenarioParams]] = ScenarioParams
    defaults: ClassVar[Mapping[str, Any]] = {}
    monitor: ClassVar[tuple[Literal["min", "max"], str]] = ("min", "loss")
    summary_samples: ClassVar[int] = 256
    padding: ClassVar[Mapping[str, Any]] = {}
    updates: ClassVar[Sequence[AnyUpdate]] = ()
    fixed: ClassVar[Sequence[str]] = ()

    def __init__(self, params: Any) -> None:
        self.params = params

    def check(self) -> None:
        """Check parameters and the files they name, before TensorFlow is imported and anything is written.

        Raises:
            UsageError: a parameter or a file is invalid.
        """

    def derived_params(self) -> Any:
        """Return the parameters, completed with values from the data, such as class names.

        They are recorded with the model, so that prediction needs no training data. The default completes nothing. An
        override returns `attrs.evolve(self.params, ...)`; the scenario is then created again with them.
        """
        return self.params

    def adapt_params(self, before: Mapping[str, Any] | None) -> Any:
        """Return the parameters of a run with a warm start, adapted to the model that it starts from.

        For values that the two models should share, such as the order of known classes. The default changes nothing.
        Called after `check` and before `derived_params`, without TensorFlow. A resumed run keeps its recorded values.

        Args:
            before: the recorded parameters of the source by dotted path, as `before.get("data.classes")`, in JSON
                types; None if aip did not write the source. Check the types: the record may come from a stranger.

        Returns:
            `self.params` or `attrs.evolve(self.params, ...)`; the scenario is then created again with them.
        """
        del before
        return self.params

    def adapt_weights(self, path: str, source: Any, fresh: Any, before: Mapping[str, Any] | None) -> Any:
        """Return the initial value of a variable that a warm start finds in its source; None: load the source's value.

        Called for each variable that the source has under its name, of the same shape or another. By default, another
        shape is a mismatch. An override keeps the part of a layer that both models share, such as the weights of known
        classes. In a distributed run, every process calls it and must get the same result.

        Args:
            path: the path of the variable in this model.
            source: the array in the source, read-only.
            fresh: the initial value in this model, which may be changed in place.
            before: see `adapt_params`.

        Returns:
            an array of the shape and kind of `fresh`, all finite. The table of the warm start counts the entries along
            the axis that differs (or the last axis) that do not have initial values: "adapted, 54 of 56".
        """
        del path, source, fresh, before

    def train_data(self) -> Any:
        """Return the training data: stacked arrays, samples, or an object that reads samples by index.

        One of these, in which a sample is a tuple `(inputs, targets)` or `(inputs, targets, weight)`, or a `Sample`:

        - a tuple `(inputs, targets)` or `(inputs, targets, weights)` of arrays, tensors, tables, or mappings of these,
          with samples along the first axis;
        - an object with `__len__` and `__getitem__` that returns a sample on demand;
        - an iterable of samples without a length, such as a generator. It is read once and kept in memory, or read as a
          stream if `trainer.samples_per_epoch` is set, if `train.preload` is off, or if it does not fit into
          `data.preload_mib`;
        - a stream, which is read in its own order: a `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterable with a
          state, or a `Stream`. If its elements are batches, these are the batches of the training.
        """
        raise _missing(self, "train_data()")

    def to_sample(self, element: Any) -> Any:
        """Return an entry of the data as a sample: `(inputs, targets)`, `(inputs, targets, weight)` or a `Sample`.

        Override it for data whose entries have another form, such as the rows of a Hugging Face dataset. It is called
        for each entry, but not for batches and stacked arrays.
        """
        return element

    def val_data(self) -> Any:
        """Return the validation data, in the form of `train_data`; None for none."""
        return None

    def lav_data(self) -> Mapping[str, Any] | None:
        """Return the data lists for LAV by name, each in the form of `train_data`.

        The default, None, uses the validation data only.
        """
        return None

    def predict_data(self) -> Any:
        """Return the data for `aip predict`, in the form of `train_data`; targets are optional.

        The default is the validation data. An override reads the files of a parameter such as `--data.files`.
        """
        return self.val_data()

    def processors(self) -> Sequence[AnyProcessor | Callable[[Sample], Sample]]:
        """Return the processors of samples before the model, in order, made from `self.params` alone."""
        return []

    def post_processors(self) -> Sequence[PostProcessor]:
        """Return the post-processors of outputs after the model, in order, made from `self.params` alone."""
        return []

    def preprocessing(self) -> Any:
        """Return new Keras layers ahead of the model whose state comes from the training data; None for none.

        Each layer with `adapt` is adapted once to the training inputs, by default to the first 100,000 of a stream
        (`train.adapt_samples`). A layer whose vocabulary or mean was given is used unchanged. The layers run on the
        host, ahead of training and in inference mode, on batches after `processors()`. `build` and `loss_values`
        receive their outputs, and the exported model contains them. A resumed run restores their state.

        Returns:
            a layer or model that takes the data's input (a tensor, or a mapping by name), a `keras.utils.FeatureSpace`,
            or a mapping from the name of an input to its layer, which leaves the other inputs as they are.
        """
        return None

    def sample_specs(self) -> DeclaredSpecs | None:
        """Return the `ColumnSpec`s of inputs and targets after preprocessing, each by name ("" for a bare array).

        A third mapping declares the weights. Without it, their specs are taken from the samples.
        The default, None, takes all specs from the samples; for data too large for memory, from a few of them.
        """
        return None

    def build(self, inputs: Any) -> Any:
        """Return the outputs of the model for symbolic inputs of shape [batch, ...], in Keras layers."""
        raise _missing(self, "build(inputs)")

    def build_prediction(self, model: Any) -> Any:
        """Return the exported and applied model, if it differs from the trained model.

        For parts used only in training, such as an auxiliary output or the targets as decoder inputs. LAV, `aip lav`,
        `aip predict` and exports use this model. Losses and metrics of its missing outputs are left out there, and the
        evaluator receives its outputs.

        Args:
            model: the trained `keras.Model`; use its `input`, `output` and `get_layer(name)`.

        Returns:
            a `keras.Model` of these layers without new weights; its inputs (a tensor, or a mapping from name to tensor)
            are a subset of the data's. None, the default, stands for the trained model.
        """
        del model

    def export_graphs(self, model: Any) -> Mapping[str, Any]:
        """Return further models to export beside the default one, such as an encoder alone.

        Each becomes a further signature of the SavedModels `best` and `export` under its name, and is available as
        `aip export --graph NAME`.

        Args:
            model: the trained `keras.Model`; use its `input`, `output` and `get_layer(name)`.

        Returns:
            by name, a `keras.Model` of these layers without new weights. Its inputs (a tensor, or a mapping from name
            to tensor) are inputs of the data, or new ones from `keras.Input` with names not used by the data. A name
            starts with a letter and consists of letters, digits and `_`. The default is empty.
        """
        del model
        return {}

    def losses(self) -> Any:
        """Return the loss of the output, or a mapping from output name to loss; several losses are added.

        Each is a value for `model.compile(loss=...)`: a name, a `keras.losses.Loss` or its class, or a function of
        targets and outputs that returns one number for the batch, for each sample, or for each position.
        """
        raise _missing(self, "losses(), loss_values(inputs, targets, outputs) or updates")

    def metrics(self) -> Any:
        """Return new Keras metrics: a list for the output, or a mapping from output name to list.

        Each is a value for `model.compile(metrics=...)`: a name, a `keras.metrics.Metric` or its class, or a function.
        Sample weights are ignored; see `weighted_metrics`.
        """
        return []

    def loss_weights(self) -> Any:
        """Return the factor of each loss in the total: a number, or a mapping by output name (or name of a loss value).

        The default, None, adds the losses without factors. The losses are logged without their factors.
        """
        return None

    def weighted_metrics(self) -> Any:
        """Return new Keras metrics that use sample weights, in the form of `metrics`."""
        return []

    def loss_values(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return loss values by name, for losses that are not a function of one target and one output.

        Each is one number for the batch, or an array of shape [batch] or [batch, ...]; the loss is the mean of its
        values. The default, None, uses `losses`. Runs inside the compiled train step.
        """
        del inputs, targets, outputs
        return None

    def callbacks(self, context: Any) -> Sequence[Any]:
        """Return new Keras callbacks for a run, which are called before those of `--callbacks`. By default none.

        Their state is saved and restored as that of callbacks from plugins, with `get_state()` and `set_state(state)`.

        Args:
            context: the `RunContext`: output folder, monitored value, learning rate, length of the run.
        """
        del context
        return []

    def vote(self, outputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the combined outputs of several models for a batch; the default, None, is their mean.

        Args:
            outputs: the outputs of each model: by name, an array of shape [batch, ...], the same for all models.

        Returns:
            arrays by the same names, before post-processing.
        """
        del outputs
        return None

    def vote_results(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the joint result of several models for one sample, in place of `vote`.

        A scenario that defines it votes after post-processing. Each model then has its own parameters, processors,
        inputs, outputs and post-processors. `Evaluator.update_results` scores the joint results. By default, the models
        vote on their outputs.

        Args:
            answers: the outputs of each model for the sample after its post-processors, by name.
        """
        del answers
        return None

    def prediction_writers(self) -> Mapping[str, Callable[[Path, Iterator[Any], Mapping[str, Any]], None]]:
        """Return the scenario's own formats for `aip predict --output FILE`, by suffix such as ".page.xml".

        Each value is a function `write(path, predictions, about)`, see `aipcore.plugin.WriterRecord`. They take
        precedence over plugins.
        """
        return {}

    def evaluator(self) -> Evaluator | None:
        """Return a new evaluator for one LAV pass over one list; None for none."""
        return None

    def summaries(
        self,
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        outputs: Mapping[str, Any],
        meta: Sequence[Any] | None,
    ) -> Iterable[Summary]:
        """Return TensorBoard records of some validation samples beside the curves; by default none.

        Called every `trainer.summaries_every_n` epochs, on the host, with the model's outputs in inference mode for
        `summary_samples` samples, evenly spaced over the validation data, the same each time.

        Args:
            inputs: per name, a NumPy array of shape [samples, ...]. The name of a bare array is "".
            targets: likewise.
            outputs: likewise, the model's outputs.
            meta: the `Sample.meta` of each sample, or None if the data has none.

        Returns:
            records, each with a unique name that no curve has.
        """
        del inputs, targets, outputs, meta
        return []

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return the target and the prediction of one sample as text; None: show the numbers.

        Args:
            targets: by name, arrays of one sample; padded, if samples vary in shape.
            outputs: by name, the outputs after post-processing.
        """
        del targets, outputs
        return None


def _missing(scenario: Scenario, what: str) -> ScenarioError:
    return ScenarioError(f"{type(scenario).__name__} does not define {what}. Every scenario must define it.")
