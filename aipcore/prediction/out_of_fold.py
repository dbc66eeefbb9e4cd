"""Scores of a cross-validation: each sample is scored with the model that was not trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from aipcore.data.dataset import Dataset
from aipcore.data.pipeline import evaluation_batch_size
from aipcore.errors import DataError, author_errors
from aipcore.prediction.data import fold_of, open_held_out
from aipcore.prediction.ensemble import EnsembleMember
from aipcore.prediction.evaluate_saved import Answers, ListScore, Scorer
from aipcore.prediction.lav import Recorder, loss_inputs
from aipcore.prediction.predictor import Predictor
from aipcore.prediction.saved_predictions import Stored
from aipcore.scenario.evaluator import check_evaluator
from aipcore.scenario.model import trained_outputs
from aipcore.scenario.pipelines import lav_data_of
from aipcore.scenario.shown_samples import show_samples


def are_folds(voters: Sequence[EnsembleMember]) -> bool:
    """Return True if models are those of all folds of one cross-validation, whose scenario has no LAV lists."""
    splits = [fold_of(voter.model.about) for voter in voters]
    known = [split for split in splits if split is not None]
    if len(known) < len(splits) or lav_data_of(voters[0].scenario) is not None:
        return False
    same = {(split.folds, split.seed, split.by) for split in known}
    folds = len(known)
    return same == {(folds, known[0].seed, known[0].by)} and {split.fold for split in known} == {*range(1, folds + 1)}


class Fold(Predictor):
    """The model of one fold."""

    def answers(self, dataset: Dataset) -> Iterator[Answers]:
        """Apply the model to its held-out samples. Batches are those of validation in training."""
        params = self.scenario.params
        size = evaluation_batch_size(dataset, params.lav.batch_size, params.val.batch_size, params.train.batch_size)
        # Each fold has adapted its own preprocessing, so the joint scorer cannot have one.
        preprocess = loss_inputs(self.voters[0].model, self.scenario)
        for blocks, sides, answers in self._answers([dataset], size):
            yield Answers(
                targets={key: column[0] for key, column in blocks[0].targets.items()},
                outputs=answers[0].outputs,
                weights={key: column[0] for key, column in blocks[0].weights.items()},
                masks=answers[0].masks,
                penalty=self.voters[0].member.extras(sides[0]).penalty,
                meta=None if blocks[0].meta is None else list(blocks[0].meta),
                inputs=sides[0] if preprocess is None else preprocess(sides[0]),
            )


@author_errors()
def score_out_of_fold(
    voters: Sequence[EnsembleMember], stored: Stored | None = None
) -> tuple[list[ListScore], list[str]]:
    """Score the models of all folds together, each on the samples that it was not trained on.

    Metrics such as AUC and the evaluator see all samples: the joint values are not means over the folds.

    Args:
        voters: the models of all folds; see `are_folds`.
        stored: storage for the targets and outputs, or None.

    Returns:
        the score of all samples with those of each fold, and for each fold with omitted samples a sentence about them.

    Raises:
        DataError: the data is missing or does not fit a model.
    """
    scenario = voters[0].scenario
    params = scenario.params
    limit = params.val.limit if params.lav.limit is None else params.lav.limit
    models: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        pipelines = [
            stack.enter_context(open_held_out(voter.scenario, split, seed=voter.model.seed, limit=limit))
            for voter in voters
            if (split := fold_of(voter.model.about)) is not None
        ]
        datasets = [pipeline.dataset() for pipeline in pipelines]
        size = sum(map(len, datasets))
        targets = list(datasets[0].specs()[1])
        if not targets:
            raise DataError(
                f"{type(scenario).__name__}.train_data() has no targets to compare with. To predict, run aip predict."
            )
        evaluator = check_evaluator(scenario.evaluator())
        shown = show_samples(scenario, evaluator, size)
        recorder = None if stored is None else Recorder(shown or evaluator, stored, "")

        def scorer(evaluator: Any) -> Scorer:
            member = voters[0]
            return Scorer(scenario, trained_outputs(member.model.about), targets, member.member.outputs, evaluator)

        together = scorer(recorder or shown or evaluator)
        for voter, dataset in zip(voters, datasets, strict=True):
            alone = scorer(check_evaluator(scenario.evaluator()))
            for batch in Fold([voter]).answers(dataset):
                together.add(batch)
                alone.add(batch)
                if recorder is not None and stored is not None:
                    recorder.add_rows("masks", batch.masks)
                    recorder.add_rows("weights", batch.weights)
                    rows = len(next(iter(batch.outputs.values())))
                    stored.penalty[-rows:] = [batch.penalty] * rows
            models[str(voter.model.path)] = alone.values()
        skipped = [text for pipeline in pipelines if (text := pipeline.skipped())]
    score = ListScore(
        name="",
        samples=size,
        values=together.values(),
        report=evaluator.report() if evaluator is not None else "",
        shown=() if shown is None else tuple(shown.samples),
        models=models,
        joint="out of fold",
        parts={str(voter.model.path): len(dataset) for voter, dataset in zip(voters, datasets, strict=True)},
    )
    return [score], list(dict.fromkeys(skipped))
