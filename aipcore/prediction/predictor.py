"""The predictor: from samples to predictions, by one model or by the vote of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import numpy.typing as npt

from aipcore.data.batching import Batching, Collector
from aipcore.data.dataset import Dataset
from aipcore.data.loader import Block, DataLoader, prefetch
from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import Mode
from aipcore.data.sample import Sample
from aipcore.data.sampler import SampleOrder
from aipcore.errors import DataError, UsageError, author_errors, python_arguments
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.prediction.data import open_predict_data
from aipcore.prediction.ensemble import Answer, EnsembleMember, joint_results, load_voter, vote, vote_on_results
from aipcore.prediction.loaded_model import Extras, takes
from aipcore.prediction.locate import find_models, given_params, resolved_params, scenario_of
from aipcore.scenario.scenario import Scenario

Array = npt.NDArray[Any]

BATCH_SIZE = 32
"""Default number of samples per batch."""


@attrs.frozen(kw_only=True, eq=False)
class Prediction:
    """The prediction for one sample.

    Attributes:
        index: index of the given sample, from 0. Several predictions share it if a processor makes several samples of
            one.
        outputs: outputs after post-processing; a single unnamed output has the name "". The masked end of a sequence is
            cut off before post-processing.
        raw: model outputs, arrays without a batch axis, padded like the batch; a single unnamed output has the name "".
            Empty for models that vote on results.
        meta: meta of the sample.
        targets: targets of the sample as used in training, if requested.
        batch: index of the batch of the sample.
        extras: extras of that batch, if the targets were requested.
        masks: masks of `raw`, by output with a Keras mask: False for positions that do not count.
    """

    index: int
    outputs: dict[str, Any]
    raw: dict[str, Array]
    meta: Any = None
    targets: dict[str, Array] | None = None
    batch: int = 0
    extras: Extras = attrs.field(factory=Extras, repr=False)
    masks: dict[str, Array] = attrs.field(factory=dict, repr=False)


class Predictor:
    """One or several loaded models.

    Args:
        voters: models; the first one's scenario votes. It also post-processes, unless the models vote on results.

    Attributes:
        scenario: the scenario of the first model, with its parameters.

    Raises:
        UsageError: the models have different inputs or outputs, and do not vote on results.
    """

    def __init__(self, voters: Sequence[EnsembleMember]) -> None:
        self.voters = list(voters)
        self.scenario = self.voters[0].scenario
        self._on_results = vote_on_results(self.voters)
        first = self.voters[0]
        for other in () if self._on_results else self.voters[1:]:
            for what, ours, theirs in (
                ("inputs", list(first.member.inputs), list(other.member.inputs)),
                ("outputs", first.member.outputs, other.member.outputs),
            ):
                if set(ours) != set(theirs):
                    raise UsageError(
                        f"{other.model.path} has the {what} {_listed(theirs)}, but {first.model.path} has "
                        f"{_listed(ours)}. Models that vote must have the same {what}."
                    )
        self._pipelines: list[Pipeline] = []
        # Models with equal preprocessing, which is the usual case, share it.
        self._groups: list[list[EnsembleMember]] = []
        for voter in self.voters:
            alike = next((group for group in self._groups if _process_alike(group[0], voter)), None)
            if alike is None:
                self._groups.append([voter])
            else:
                alike.append(voter)
        self._group_of = [
            next(number for number, group in enumerate(self._groups) if voter in group) for voter in self.voters
        ]

    @classmethod
    @author_errors()
    @python_arguments()
    def load(
        cls,
        path: str | Path | Sequence[str | Path],
        *,
        trust: bool = False,
        params: Mapping[str, Any] | None = None,
        scenario: type[Scenario] | None = None,
    ) -> Predictor:
        """Load one model, or several models that vote.

        Args:
            path: a `best` or `export` folder, a run folder or a checkpoint, or several of these. The folder of a
                cross-validation stands for the models of all folds.
            trust: if True, import a scenario that is not an installed plugin.
            params: changed parameters, by dotted name: `{"data.on_error": "skip"}`.
            scenario: scenario to use in place of the recorded one, such as a class in a notebook.

        Raises:
            UsageError: a path does not contain a model, a scenario is missing or untrusted, or the models do not match.
        """
        paths = [path] if isinstance(path, str | Path) else list(path)
        if not paths:
            raise UsageError("No model is given. Pass at least one path.")
        overrides = None if params is None else Layer.from_mapping("params", params)
        voters = []
        for model in (model for each in paths for model in find_models(Path(each))):
            loaded, plugins = scenario_of(model, get_plugin_manager(), trust=trust, given=scenario)
            resolved = resolved_params(model, loaded, plugins, overrides, trust=trust)
            given = given_params(resolved, loaded.cls, "predict")
            voters.append(load_voter(model, loaded.cls(resolved.value), given))
        return cls(voters)

    def predict(self, samples: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Prediction]:
        """Preprocess samples, apply the models, and post-process their outputs.

        Args:
            samples: `Sample` objects or only inputs; consumed lazily.
            batch_size: number of samples per batch; shorter arrays are padded.

        Yields:
            the predictions in the order of the samples.

        Raises:
            DataError: a sample cannot be processed or does not fit the model. The message names the sample.
        """
        source = enumerate(each if isinstance(each, Sample) else Sample(inputs=each) for each in samples)
        number = 0
        while taken := list(islice(source, batch_size)):
            with author_errors():
                for part in self._processed(taken, batch_size):
                    yield from self._predict_processed(part, number)
                    number += 1

    @author_errors()
    def predict_raw(self, inputs: Any) -> Any:
        """Apply the models to arrays, without any processing.

        Args:
            inputs: array of shape [batch, ...] or mapping from name to array, as in the signature of the model.

        Returns:
            an array of shape [batch, ...] or a dict of such arrays, as in the signature of the model.

        Raises:
            DataError: the arrays do not fit the model.
        """
        named = inputs if isinstance(inputs, Mapping) else {"": inputs}
        outputs = vote(self.scenario, [voter.member.run(named)[0] for voter in self.voters])
        return outputs[""] if self.voters[0].member.outputs == [""] else outputs

    def predict_dataset(
        self, dataset: Dataset, *, batch_size: int = BATCH_SIZE, targets: bool = False
    ) -> Iterator[Prediction]:
        """Apply the models to a dataset of processed samples, such as `Pipeline.dataset()`.

        Args:
            dataset: dataset for all models.
            batch_size: number of samples per batch.
            targets: if True, the predictions include the targets of the dataset.

        Yields:
            the predictions after post-processing, in the order of the dataset.
        """
        return self._predict_datasets([dataset] * len(self._groups), batch_size, targets=targets)

    def predict_data(
        self, *, batch_size: int = BATCH_SIZE, targets: bool = False, origin: str = "predict_data()"
    ) -> Iterator[Prediction]:
        """Apply the models to the prediction data in the scenario's parameters.

        Args:
            batch_size: number of samples per batch.
            targets: if True, read and process the targets too.
            origin: name of the data in errors.

        Raises:
            DataError: the data is missing, or a sample cannot be processed. The message names the sample.
        """
        with author_errors(), ExitStack() as stack:
            datasets = []
            self._pipelines.clear()
            for group in self._groups:
                scenario = group[0].scenario
                data = scenario.predict_data()
                if data is None:
                    raise DataError(
                        f"{type(self.scenario).__name__} has no data to predict. Pass --data.files if it has that "
                        "option, or call Predictor.predict with samples."
                    )
                mode = Mode.EVALUATION if targets else Mode.PREDICTION
                opened = open_predict_data(scenario, data, origin, mode, seed=group[0].model.seed, given=group[0].given)
                pipeline = stack.enter_context(opened)
                self._pipelines.append(pipeline)
                datasets.append(pipeline.dataset())
            yield from self._predict_datasets(datasets, batch_size, targets=targets)

    def skipped(self) -> list[str]:
        """Return sentences on the samples that `predict_data` has left out since the last call."""
        return [text for text in (pipeline.skipped() for pipeline in self._pipelines) if text]

    def padded(self) -> str:
        """Return a warning about unmasked outputs for padding that are not post-processed; empty without any."""
        names = self.voters[0].member.padded()
        if self.voters[0].post or not names:
            return ""
        return (
            f"{'The output' if names == [''] else 'The output ' + ', '.join(names)} has no mask, so a sequence that is "
            "padded in its batch gets values for the padding too. Mask the padding in build(), for example with "
            "keras.layers.Masking, or predict with --val.batch_size 1."
        )

    def _predict_datasets(self, datasets: Sequence[Dataset], batch_size: int, *, targets: bool) -> Iterator[Prediction]:
        if targets and not datasets[0].specs()[1]:
            raise DataError("The data to predict has no targets. Leave out --targets, or use data with targets.")
        first = 0
        for blocks, sides, answers in self._answers(datasets, batch_size):
            size = blocks[0].batch_size
            extras = self.voters[0].member.extras(sides[0]) if targets and len(self.voters) == 1 else Extras()
            mode = Mode.EVALUATION if targets else Mode.PREDICTION
            for row, (outputs, raw, masks) in enumerate(joint_results(answers, mode)):
                truth = {name: column[0][row] for name, column in blocks[0].targets.items()} if targets else None
                yield Prediction(
                    index=first + row,
                    outputs=outputs,
                    raw=raw,
                    masks=masks,
                    meta=answers[0].meta[row],
                    targets=truth,
                    batch=blocks[0].first,
                    extras=extras,
                )
            first += size

    def _answers(
        self, datasets: Sequence[Dataset], batch_size: int
    ) -> Iterator[tuple[Sequence[Block], list[dict[str, Array]], list[Answer]]]:
        """Apply each model to the dataset of its group.

        Args:
            datasets: processed samples for each group of models.
            batch_size: number of samples per batch.

        Yields:
            per batch: its block and inputs in each dataset, and the outputs of each model.

        Raises:
            UsageError: the datasets have different sample counts, or omit different samples.
            DataError: a dataset lacks an input of a model.
        """
        sizes = {len(dataset) for dataset in datasets}
        if len(sizes) > 1:
            raise UsageError(f"The models' processors return different sample counts ({sizes}). They must be equal.")
        for dataset, group in zip(datasets, self._groups, strict=True):
            for voter in group:
                _check_inputs(dataset, voter)
        loaders = [_loader(dataset, batch_size) for dataset in datasets]
        with ExitStack() as running:
            ahead = [running.enter_context(closing(prefetch(loader.blocks(0, chunk=1), _same))) for loader in loaders]
            for blocks in zip(*ahead, strict=True):
                if len({(block.first, block.batch_size) for block in blocks}) > 1:
                    raise UsageError("The models' processors skip different samples. Use --data.on_error raise.")
                sides = [{name: column[0] for name, column in block.inputs.items()} for block in blocks]
                meta = [block.meta or [None] * block.batch_size for block in blocks]
                yield blocks, sides, self._outputs(sides, meta)

    def _processed(
        self, taken: Sequence[tuple[int, Sample]], batch_size: int
    ) -> Iterator[list[tuple[int, list[Sample]]]]:
        """Yield batches of processed samples: each with the index of the given sample, and its form for each group."""
        ready: list[tuple[int, list[Sample]]] = []
        for index, sample in taken:
            made = [group[0].processors.apply(sample, index) for group in self._groups]
            if len({len(each) for each in made}) > 1:
                raise UsageError(f"The models' processors return different sample counts for sample {index}.")
            ready += [(index, list(each)) for each in zip(*made, strict=True)]
        for start in range(0, len(ready), batch_size):
            yield ready[start : start + batch_size]

    def _predict_processed(self, part: list[tuple[int, list[Sample]]], number: int) -> Iterator[Prediction]:
        sides = []
        for position, group in enumerate(self._groups):
            collector = Collector(group[0].layout, len(part))
            for index, samples in part:
                collector.add(attrs.evolve(samples[position], targets=None, weight=None), index)
            sides.append(collector.batch().inputs)
        meta = [[samples[position].meta for _, samples in part] for position in range(len(self._groups))]
        joint = joint_results(self._outputs(sides, meta), Mode.PREDICTION)
        for (index, samples), (outputs, raw, masks) in zip(part, joint, strict=True):
            yield Prediction(index=index, outputs=outputs, raw=raw, masks=masks, meta=samples[0].meta, batch=number)

    def _outputs(self, sides: Sequence[Mapping[str, Array]], meta: Sequence[Sequence[Any]]) -> list[Answer]:
        """Return the outputs of each model for the inputs and meta of a batch, which was processed for each group."""
        answers = []
        for voter, number in zip(self.voters, self._group_of, strict=True):
            outputs, masks = voter.member.run(sides[number])
            answers.append(Answer(member=voter, outputs=outputs, masks=masks, meta=meta[number]))
        return answers


def _process_alike(one: EnsembleMember, other: EnsembleMember) -> bool:
    return type(one.scenario) is type(other.scenario) and one.scenario.params == other.scenario.params


def _check_inputs(dataset: Dataset, voter: EnsembleMember) -> None:
    specs, _, _ = dataset.specs()
    if not takes(voter.model, voter.member.graph, specs):
        raise DataError(
            f"The data has the inputs {_listed(specs)}, but {voter.model.path} takes {_listed(voter.member.inputs)}."
        )


def _loader(dataset: Dataset, batch_size: int) -> DataLoader:
    order = SampleOrder(len(dataset), seed=0, shuffle=False)
    return DataLoader(dataset, order, Batching(samples=len(dataset), batch_size=min(batch_size, len(dataset))))


def _same(block: Any) -> Any:
    return block


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name or "one array" for name in names) or "nothing"
