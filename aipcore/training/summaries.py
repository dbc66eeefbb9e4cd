"""Shows a scenario some validation samples and the model's answers, and checks what it makes of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.errors import ScenarioError
from aipcore.scenario.graph import Graph, block_signature
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary
from aipcore.training.params import TrainerParams
from aipcore.training.prepare import RunModel
from aipcore.training.probe import spread_samples

Array = npt.NDArray[Any]
CHANNELS = (1, 3, 4)


def make_summaries(scenario: Scenario, trainer: TrainerParams, model: RunModel) -> SampleSummaries | None:
    """The summaries of a run, None if the scenario has none, there is no validation data, or they are off.

    Raises:
        ScenarioError: unless `trainer.skip_sanity_check`, what the scenario makes of the untrained model cannot be
            shown, and why.
    """
    wanted = type(scenario).summaries is not Scenario.summaries
    if not wanted or model.validation is None or not trainer.summaries_every_n:
        return None
    summaries = SampleSummaries(
        scenario,
        model.graph,
        model.validation.dataset,
        batch_size=model.validation.batching.batch_size,
        reserved=model.metrics.names,
        eager=trainer.force_eager,
    )
    if not trainer.skip_sanity_check:
        summaries.make()
    return summaries


class SampleSummaries:
    """What `Scenario.summaries` makes of some validation samples.

    Args:
        scenario: overrides `summaries`.
        graph: the model; run in inference mode, with the weights it has at that time.
        dataset: the validation data. `Scenario.summary_samples` samples are taken, evenly spaced, always the same.
        batch_size: most samples that go through the model at once.
        reserved: names that belong to curves.
        eager: whether to compile nothing.
    """

    def __init__(
        self,
        scenario: Scenario,
        graph: Graph,
        dataset: Dataset,
        *,
        batch_size: int,
        reserved: Collection[str],
        eager: bool = False,
    ) -> None:
        self._scenario = scenario
        self._batch_size = batch_size
        self._reserved = reserved
        self._dataset = dataset
        self._outputs: Any = lambda inputs: graph(inputs, training=False)
        if not eager:
            signature = [block_signature(dataset.specs()[0], axes=1)]
            self._outputs = tf.function(self._outputs, autograph=False, input_signature=signature)

    def make(self) -> list[Summary]:
        """Runs the model on the samples and asks the scenario.

        Returns:
            checked records whose arrays are NumPy arrays of the shapes and types that `EventWriter` takes.

        Raises:
            ScenarioError: a record cannot be shown, and why.
        """
        # All samples are padded to one size, so that the outputs of the batches fit together.
        rows = spread_samples(self._dataset, self._scenario.summary_samples)
        inputs = rows.inputs
        parts = []
        for first in range(0, len(next(iter(inputs.values()))), self._batch_size):
            batch = {name: tf.constant(column[first : first + self._batch_size]) for name, column in inputs.items()}
            parts.append({name: value.numpy() for name, value in self._outputs(batch).items()})
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._checked(self._scenario.summaries(inputs, rows.targets, outputs, rows.meta))

    def _checked(self, given: Iterable[Summary] | None) -> list[Summary]:
        if given is None or isinstance(given, str | Image | ImageGrid | Histogram | PRCurve):
            raise self._error(f"returned {type(given).__name__}: return a list of Image, ImageGrid, Histogram, PRCurve")
        checked: list[Summary] = []
        names = set(self._reserved)
        for record in given:
            if not isinstance(record, Image | ImageGrid | Histogram | PRCurve):
                raise self._error(
                    f"gave {type(record).__name__}: give Image, ImageGrid, Histogram or PRCurve from aipcore.scenario"
                )
            if record.name in names:
                raise self._error(f"gave {record.name!r}, which is the name of a curve or of another record: rename it")
            names.add(record.name)
            checked.append(self._arrays(record))
        return checked

    def _arrays(self, record: Summary) -> Summary:
        what = f"{type(record).__name__} {record.name!r}"
        match record:
            case Image():
                pixels = self._pixels(record.pixels, what)
                if pixels.ndim == 2:
                    pixels = pixels[..., None]
                if pixels.ndim != 3 or pixels.shape[-1] not in CHANNELS or not pixels.size:
                    shape = np.shape(record.pixels)
                    raise self._error(f"gave {what} of shape {shape}: give [height, width] or [height, width, 1|3|4]")
                return attrs.evolve(record, pixels=pixels)
            case ImageGrid():
                images = self._pixels(record.images, what)
                if images.ndim == 3:
                    images = images[..., None]
                if images.ndim != 4 or images.shape[-1] not in CHANNELS or not images.size:
                    shape = np.shape(record.images)
                    raise self._error(
                        f"gave {what} of shape {shape}: give [images, height, width] or [images, height, width, 1|3|4]"
                    )
                return attrs.evolve(record, images=images)
            case Histogram():
                values = self._numbers(record.values, what)
                if not np.isfinite(values).all():
                    raise self._error(f"gave {what} with values that are not finite: leave them out")
                return attrs.evolve(record, values=values)
            case PRCurve():
                return self._curve(record, what)

    def _curve(self, record: PRCurve, what: str) -> PRCurve:
        labels, scores = self._numbers(record.labels, what), self._numbers(record.scores, what)
        if labels.shape != scores.shape:
            raise self._error(f"gave {what} with {labels.shape} labels and {scores.shape} scores: give as many of each")
        if not np.isin(labels, (0, 1)).all():
            raise self._error(f"gave {what} with labels other than 0 and 1: give what is true as bool")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise self._error(f"gave {what} with scores outside of 0 to 1: give probabilities, not logits")
        if record.thresholds < 2:
            raise self._error(f"gave {what} with {record.thresholds} thresholds: give at least 2")
        return attrs.evolve(record, labels=labels.astype(bool), scores=scores)

    def _pixels(self, given: Any, what: str) -> Array:
        array = np.asarray(given)
        if array.dtype == np.uint8:
            return array
        if array.dtype != bool and not _is_float(array):
            raise self._error(f"gave {what} of {array.dtype}: give uint8 from 0 to 255, or float from 0 to 1")
        return (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255).round().astype(np.uint8)

    def _numbers(self, given: Any, what: str) -> Array:
        array = np.asarray(given)
        if not array.size:
            raise self._error(f"gave {what} without values: leave it out")
        if array.dtype.kind not in "biu" and not _is_float(array):
            raise self._error(f"gave {what} of {array.dtype}: give numbers")
        return array.astype(np.float64)

    def _error(self, text: str) -> ScenarioError:
        return ScenarioError(f"{type(self._scenario).__name__}.summaries() {text}.")


def _is_float(array: Array) -> bool:
    # bfloat16 is no kind of float to NumPy itself.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
