"""The class an author extends: data, model, losses and metrics. Everything around it is aip's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from aipcore.data.processor import AnyProcessor, PostProcessor
from aipcore.data.sample import DeclaredSpecs, Sample
from aipcore.errors import ScenarioError
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.summaries import Summary


class Scenario:
    """A unit of work: data, a model, its losses and metrics.

    A scenario must define `train_data`, `build` and either `losses` or `loss_values`. Its module should import
    TensorFlow, Keras and NumPy inside the methods that need them, so that `--help` stays fast.

    Inputs, targets and outputs are each either one array (or tensor) or a mapping from name to array. Losses and
    metrics follow the outputs: one loss for one output, or a mapping by output name; a loss or metric of output `x`
    compares it with target `x`, or with the only target there is.

    Attributes:
        params_class: the parameters, a subclass of `ScenarioParams`.
        defaults: values that differ from the general defaults, by dotted path: `{"trainer.epochs": 20}`.
        monitor: the validation value that says which model is best, and whether less ("min") or more ("max") of it is
            better.
        summary_samples: most validation samples that `summaries` is given.
        padding: the value that fills a batch of samples of varying shapes, by the name of the input or target
            ("inputs" or "targets" for a bare array); 0 if not named.
    """

    params_class: ClassVar[type[ScenarioParams]] = ScenarioParams
    defaults: ClassVar[Mapping[str, Any]] = {}
    monitor: ClassVar[tuple[Literal["min", "max"], str]] = ("min", "loss")
    summary_samples: ClassVar[int] = 256
    padding: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, params: Any) -> None:
        self.params = params

    def check(self) -> None:
        """Looks at parameters and the files they name, before TensorFlow is imported and anything is written.

        Raises:
            UsageError: something is not as it should be.
        """

    def derived_params(self) -> Any:
        """The parameters, completed by what only the data can tell, such as the names of the classes.

        They are recorded with the model, so that prediction needs no training data. The default completes nothing. An
        override returns `attrs.evolve(self.params, ...)`; the scenario is then made anew with them.
        """
        return self.params

    def train_data(self) -> Any:
        """The training data: stacked arrays, samples, or an object that reads samples by index.

        A pair `(inputs, targets)` of arrays whose first axis counts the samples; or an iterable of `Sample`, which is
        read once and kept; or an object with `__len__` and `__getitem__`, which is asked for a `Sample` when one is
        needed.
        """
        raise _missing(self, "train_data()")

    def val_data(self) -> Any:
        """The validation data, of the same form as `train_data`; None for none."""
        return None

    def lav_data(self) -> Mapping[str, Any] | None:
        """Lists of data for the extended validation, by name, each of the form of `train_data`.

        None, the default: the validation data alone.
        """
        return None

    def predict_data(self) -> Any:
        """What `aip predict` applies the model to, of the form of `train_data`; targets need not be there.

        The default is the validation data. An override reads what parameters name, such as `--data.files`.
        """
        return self.val_data()

    def processors(self) -> Sequence[AnyProcessor | Callable[[Sample], Sample]]:
        """What every sample goes through before the model, in this order; made from `self.params` alone."""
        return []

    def post_processors(self) -> Sequence[PostProcessor]:
        """What every output goes through after the model, in this order; made from `self.params` alone."""
        return []

    def sample_specs(self) -> DeclaredSpecs | None:
        """The `ColumnSpec`s of inputs and targets, each by name ("" for a bare array), behind the processors.

        A third mapping declares the weights. Without it, they are as the samples have them.
        The default, None, takes them from the samples; only of data that is too large to keep are few of these seen.
        """
        return None

    def build(self, inputs: Any) -> Any:
        """Builds the model: symbolic inputs of shape [batch, ...] to outputs, in Keras layers."""
        raise _missing(self, "build(inputs)")

    def build_prediction(self, model: Any) -> Any:
        """Builds the model that is exported and applied, where it is another than the trained one.

        For what is only there to train, such as an auxiliary output or the right answers as inputs of a decoder. The
        extended validation, `aip lav`, `aip predict` and exports run what this returns; losses and metrics of outputs
        that it does not have are left out there, and the evaluator sees its outputs.

        Args:
            model: the trained `keras.Model`, whose `input`, `output` and `get_layer(name)` are to be used.

        Returns:
            a `keras.Model` of these layers, with no weights of its own; its inputs (a tensor, or a mapping from name
            to tensor) are some of the data's. None, the default, stands for the trained model.
        """
        del model

    def export_graphs(self, model: Any) -> Mapping[str, Any]:
        """Build further models that are exported beside the default one, such as an encoder alone.

        Each becomes a further signature of the SavedModels `best` and `export` under its name, and a choice of
        `aip export --graph NAME`.

        Args:
            model: the trained `keras.Model`, whose `input`, `output` and `get_layer(name)` are to be used.

        Returns:
            by name, a `keras.Model` of these layers with no weights of its own. Its inputs (a tensor, or a mapping from
            name to tensor) are some of the data's, or new ones from `keras.Input` with names that the data does not
            have. A name starts with a letter and consists of letters, digits and `_`. The default has none.
        """
        del model
        return {}

    def losses(self) -> Any:
        """The loss of the output, or a mapping from output name to loss; several are added up.

        Each is what `model.compile(loss=...)` takes: a name, a `keras.losses.Loss` or its class, or a function of
        targets and outputs that returns one number for the batch, for each sample, or for each position.
        """
        raise _missing(self, "losses() or loss_values(inputs, targets, outputs)")

    def metrics(self) -> Any:
        """New Keras metrics: a list for the output, or a mapping from output name to list.

        Each is what `model.compile(metrics=...)` takes: a name, a `keras.metrics.Metric` or its class, or a function.
        Sample weights do not count; see `weighted_metrics`.
        """
        return []

    def loss_weights(self) -> Any:
        """The factor of each loss in the total: a number, or a mapping by output name (or name of a loss value).

        The default, None, adds losses up as they are. The losses are logged without their factors.
        """
        return None

    def weighted_metrics(self) -> Any:
        """New Keras metrics that count samples by their weights, of the form of `metrics`."""
        return []

    def loss_values(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Loss values by name, for losses that are not a function of one target and one output.

        Each is one number for the batch, or an array of shape [batch] or [batch, ...]; the loss is the mean of its
        values. The default, None, computes `losses`. Runs inside the compiled training step.
        """
        del inputs, targets, outputs
        return None

    def vote(self, outputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """What several models together answer for a batch; the default, None, is the mean of all.

        Args:
            outputs: what each model answered: by name, an array of shape [batch, ...], the same of all models.

        Returns:
            arrays by the same names, to be post-processed.
        """
        del outputs
        return None

    def evaluator(self) -> Evaluator | None:
        """A new evaluator for one pass of the extended validation over one list; None for none."""
        return None

    def summaries(
        self,
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        outputs: Mapping[str, Any],
        meta: Sequence[Any] | None,
    ) -> Iterable[Summary]:
        """What TensorBoard shows of some validation samples beside the curves; by default nothing.

        Called every `trainer.summaries_every_n` epochs, on the host, with the samples that the model answered in
        inference mode: `summary_samples` of them, evenly spaced over the validation data, the same each time.

        Args:
            inputs: per name, a NumPy array of shape [samples, ...]. The name of a bare array is "".
            targets: likewise.
            outputs: likewise, what the model answered.
            meta: the `Sample.meta` of each sample, or None if the data has none.

        Returns:
            records, each with a name of its own that no curve has.
        """
        del inputs, targets, outputs, meta
        return []

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str] | None:
        """What is right and what was answered for one sample, as people read it; None: in numbers.

        Args:
            targets: by name, arrays of one sample; padded, if samples vary in shape.
            outputs: by name, what the post-processors made of the model's outputs.
        """
        del targets, outputs
        return None


def _missing(scenario: Scenario, what: str) -> ScenarioError:
    return ScenarioError(f"{type(scenario).__name__} does not define {what}: every scenario needs it.")
