"""Loaded models with their scenarios, and their joint outputs or results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.batching import Layout
from aipcore.data.processing import Processors
from aipcore.data.processor import Mode, PostProcessor, as_post_processors, as_processors, post_process
from aipcore.errors import ScenarioError, UsageError
from aipcore.prediction.data import cut_masked_end
from aipcore.prediction.loaded_model import LoadedModel, load_graph
from aipcore.prediction.locate import ModelDir
from aipcore.scenario.model import BARE_INPUT
from aipcore.scenario.scenario import Scenario

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


@attrs.frozen(kw_only=True, eq=False)
class EnsembleMember:
    """A loaded model with its scenario.

    Attributes:
        model: location of the model.
        scenario: scenario made with the parameters that the model is applied with.
        member: loaded model.
        processors: processors of the prediction pipeline.
        layout: layout of its samples.
        post: post-processors of its outputs.
        given: names of the parameters that were changed for this application of the model.
    """

    model: ModelDir
    scenario: Scenario
    member: LoadedModel
    processors: Processors
    layout: Layout
    post: Sequence[PostProcessor] = ()
    given: frozenset[str] = frozenset()


def load_voter(model: ModelDir, scenario: Scenario, given: frozenset[str] = frozenset()) -> EnsembleMember:
    """Load a model for a scenario that was made with its parameters.

    Raises:
        UsageError: the model is damaged, or does not fit its record or scenario.
    """
    origin = f"{type(scenario).__name__}.processors()"
    member = LoadedModel(load_graph(model, scenario))
    # From internal input names to column names: a single unnamed input has a column name too.
    keys = {name: name or BARE_INPUT for name in member.inputs}
    padding = {name: scenario.padding[key] for name, key in keys.items() if key in scenario.padding}
    return EnsembleMember(
        model=model,
        scenario=scenario,
        member=member,
        processors=Processors.make(
            as_processors(scenario.processors(), origin), Mode.PREDICTION, seed=model.seed, origin="the samples"
        ),
        layout=Layout((member.inputs, {}, {}), ("" in member.inputs, False, False), (padding, {}, {}), "the samples"),
        post=as_post_processors(scenario.post_processors(), f"{type(scenario).__name__}.post_processors()"),
        given=given,
    )


def vote(scenario: Scenario, outputs: Sequence[Arrays]) -> dict[str, Array]:
    """Combine the outputs of several models for one batch. Those of a single model are returned unchanged.

    Args:
        scenario: scenario whose `vote` combines the outputs if it is overridden.
        outputs: outputs of each model by name, arrays of shape [batch, ...].

    Raises:
        UsageError: the models have outputs with different names or shapes.
        ScenarioError: an output is not floating-point, and the scenario does not define `vote`.
    """
    first = outputs[0]
    if len(outputs) == 1:
        return dict(first)
    for number, other in enumerate(outputs[1:], start=2):
        if set(other) != set(first):
            raise UsageError(
                f"Model {number} returns {_names(other)}, but model 1 returns {_names(first)}. Models that vote need "
                "the same outputs."
            )
        for name, array in first.items():
            if array.shape != other[name].shape:
                raise UsageError(
                    f"{name or 'The output'} of model {number} has shape {other[name].shape}, but that of model 1 has "
                    f"shape {array.shape}. Models that vote need the same shapes."
                )
    joined = scenario.vote(outputs)
    if joined is None:
        return mean_vote(outputs, type(scenario).__name__)
    if set(joined) != set(first):
        raise ScenarioError(
            f"{type(scenario).__name__}.vote() returned {_names(joined)}. It must return {_names(first)}."
        )
    return {name: np.asarray(joined[name]) for name in first}


def vote_on_results(members: Sequence[EnsembleMember]) -> bool:
    """Return True if models vote after post-processing, by the `vote_results` of the first model's scenario."""
    return len(members) > 1 and type(members[0].scenario).vote_results is not Scenario.vote_results


@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """The outputs of a model for one batch.

    Attributes:
        member: model.
        outputs: arrays of shape [batch, ...] by name.
        masks: Keras masks of some of the outputs.
        meta: meta of each sample, after the processors of the model.
    """

    member: EnsembleMember
    outputs: Arrays
    masks: Arrays
    meta: Sequence[Any]


def joint_results(
    answers: Sequence[Answer], mode: Mode
) -> Iterator[tuple[dict[str, Any], dict[str, Array], dict[str, Array]]]:
    """Combine the outputs of models for one batch, before or after post-processing.

    Args:
        answers: outputs of each model. The scenario of the first one votes.
        mode: mode of the post-processors.

    Yields:
        per sample: the outputs after post-processing and the vote, and the joint raw outputs with their masks. Models
        that vote on results do not have joint raw outputs.
    """
    scenario = answers[0].member.scenario
    if vote_on_results([answer.member for answer in answers]):
        for row in range(len(answers[0].meta)):
            yield _vote_results(scenario, [_of_row(answer, row, mode)[0] for answer in answers]), {}, {}
        return
    joint = attrs.evolve(answers[0], outputs=vote(scenario, [answer.outputs for answer in answers]))
    for row in range(len(joint.meta)):
        yield _of_row(joint, row, mode)


def _of_row(answer: Answer, row: int, mode: Mode) -> tuple[dict[str, Any], dict[str, Array], dict[str, Array]]:
    """Return the outputs of a model for one sample: post-processed without the masked end, raw, and the masks."""
    raw, masks = _row(answer.outputs, row), _row(answer.masks, row)
    outputs: dict[str, Any] = {name: cut_masked_end(value, masks.get(name)) for name, value in raw.items()}
    post = answer.member.post
    return post_process(post, outputs, answer.meta[row], mode=mode) if post else outputs, raw, masks


def _vote_results(scenario: Scenario, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    joint = scenario.vote_results(results)
    if not isinstance(joint, Mapping):
        raise ScenarioError(
            f"{type(scenario).__name__}.vote_results() returned {type(joint).__name__}. Return a mapping from name to "
            "value."
        )
    return dict(joint)


def mean_vote(outputs: Sequence[Arrays], kind: str) -> dict[str, Array]:
    """Return the mean of each output over the models, computed in float64, in the dtype of the output.

    Args:
        outputs: outputs of each model, with equal names and shapes.
        kind: class name of the scenario, for errors.
    """
    joined = {}
    for name, array in outputs[0].items():
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            raise ScenarioError(
                f"The output {name or 'of the model'} has dtype {array.dtype}, which has no mean. Define "
                f"{kind}.vote(outputs)."
            )
        total = sum(each[name].astype(np.float64) for each in outputs)
        joined[name] = np.asarray(total / len(outputs), array.dtype)
    return joined


def _names(outputs: Mapping[str, Any]) -> str:
    return ", ".join(name or "one output without a name" for name in outputs) or "nothing"


def _row(columns: Arrays, row: int) -> dict[str, Array]:
    return {name: np.asarray(column[row, ...]) for name, column in columns.items()}  # A string stays an object.
