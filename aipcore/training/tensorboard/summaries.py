"""The scenario's summaries of some validation samples and the model's outputs, for TensorBoard."""

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
    """Return the summaries of a run; None if the scenario has none, there is no validation data, or they are off.

    Raises:
        ScenarioError: the summaries of the untrained model cannot be shown; not checked with
            `trainer.skip_sanity_check`.
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
    """The results of `Scenario.summaries` for some validation samples.

    Args:
        scenario: the scenario, which overrides `summaries`.
        graph: the model; run in inference mode, with its current weights.
        dataset: the validation data. `Scenario.summary_samples` samples are used, evenly spaced, always the same.
        batch_size: the most samples that go through the model in one call.
        reserved: names that belong to curves.
        eager: if True, compile nothing.
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
        """Run the model on the samples and return the scenario's summaries.

        Returns:
            Checked records whose arrays are NumPy arrays of the shapes and types that `EventWriter` accepts.

        Raises:
            ScenarioError: a record cannot be shown.
        """
        # All samples are padded to one size, so that the outputs of the batches can be concatenated.
        rows = spread_samples(self._dataset, self._scenario.summary_samples)
        inputs = rows.inputs
        parts = []
        for first in range(0, len(next(iter(inputs.values()))), self._batch_size):
            batch = {name: tf.constant(column[first : first + self._batch_size]) for name, column in inputs.items()}
            parts.append({name: value.numpy() for name, value in self._outputs(batch).items()})
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._check.checked(self._scenario.summaries(inputs, rows.targets, outputs, rows.meta))
