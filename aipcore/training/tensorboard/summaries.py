"""Shows a scenario some validation samples and the model's answers, for TensorBoard."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.scenario.model import Graph, block_signature
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.summaries import Summary
from aipcore.training.callbacks.model_probe import spread_samples
from aipcore.training.params import TrainerParams
from aipcore.training.setup import Engine
from aipcore.training.tensorboard.summary_records import RecordCheck


def make_summaries(scenario: Scenario, trainer: TrainerParams, model: Engine) -> SampleSummaries | None:
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
        self._check = RecordCheck(f"{type(scenario).__name__}.summaries()", reserved)
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
        return self._check.checked(self._scenario.summaries(inputs, rows.targets, outputs, rows.meta))
