"""Scores of several models that vote."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from aipcore.data.dataset import Dataset
from aipcore.data.modes import Mode
from aipcore.errors import DataError, UsageError
from aipcore.evaluation.shown import show_samples
from aipcore.prediction.data import lav_lists, open_pipeline
from aipcore.prediction.lav import Recorder
from aipcore.prediction.predictor import Predictor
from aipcore.prediction.scoring import Answers, ListScore, Scorer
from aipcore.prediction.stored import Stored
from aipcore.scenario.graph import trained_outputs

NO_PENALTY = "The loss is that of the voted outputs, without the penalties of the models' regularizers."


class Jury(Predictor):
    """Several models of one scenario whose joint outputs are scored, as `aip predict` joins them.

    The first model's scenario has the losses, metrics and evaluator. Batches are those of validation in training.
    """

    def score(self, stored: Stored | None = None) -> tuple[list[ListScore], list[str]]:
        """Score the joint outputs, and those of each model alone, on each list of the models' data.

        Args:
            stored: takes in targets and joint outputs, if given.

        Returns:
            the scores of each list, and a sentence for each list of which samples were left out.

        Raises:
            UsageError: the models have different lists of data or numbers of samples.
            DataError: there is no data, or it does not fit a model.
        """
        lists = [lav_lists(group[0].scenario) for group in self._groups]
        for group, other in zip(self._groups, lists, strict=True):
            if list(other) != list(lists[0]):
                raise UsageError(
                    f"{group[0].model.path} has the lists {_listed(other)}, but {self.voters[0].model.path} has "
                    f"{_listed(lists[0])}: give the same lists for all models with the options of --lav."
                )
        scores: list[ListScore] = []
        skipped: dict[str, None] = {}
        params = self.scenario.params
        for name in lists[0]:
            origin, preload = (
                (f"lav_data()[{name!r}]", params.lav.preload) if name else ("val_data()", params.val.preload)
            )
            with ExitStack() as stack:
                pipelines = [
                    stack.enter_context(
                        open_pipeline(
                            group[0].scenario,
                            data[name],
                            origin,
                            mode=Mode.EVALUATION,
                            seed=group[0].model.seed,
                            preload=preload,
                        )
                    )
                    for group, data in zip(self._groups, lists, strict=True)
                ]
                scores.append(self._score([pipeline.dataset() for pipeline in pipelines], name, origin, stored))
                skipped |= dict.fromkeys(text for pipeline in pipelines if (text := pipeline.skipped()))
        return scores, list(skipped)

    def _score(self, datasets: list[Dataset], name: str, origin: str, stored: Stored | None) -> ListScore:
        scenario, params, voters = self.scenario, self.scenario.params, self.voters
        targets = list(datasets[0].specs()[1])
        if not targets:
            raise DataError(
                f"{type(scenario).__name__}.{origin} has no targets to compare with: to predict, run aip predict."
            )
        trained, outputs = trained_outputs(voters[0].model.about), voters[0].member.outputs

        def scorer(evaluator: Any) -> Scorer:
            return Scorer(scenario, trained, targets, outputs, evaluator)

        evaluator = scenario.evaluator()
        shown = show_samples(scenario, evaluator, len(datasets[0]))
        recorder = None if stored is None else Recorder(shown or evaluator, stored, name)
        together, alone = scorer(recorder or shown or evaluator), [scorer(scenario.evaluator()) for _ in voters]
        sides_of = [number for voter in voters for number, group in enumerate(self._groups) if voter in group]
        penalty = False
        batch_size = params.lav.batch_size or params.val.batch_size or params.train.batch_size
        for blocks, sides, answers, masks in self._answers(datasets, batch_size):
            truth = {key: column[0] for key, column in blocks[0].targets.items()}
            extras = [voter.member.extras(sides[side]) for voter, side in zip(voters, sides_of, strict=True)]
            weights = {key: column[0] for key, column in blocks[0].weights.items()}
            known: dict[str, Any] = {"targets": truth, "weights": weights, "meta": blocks[0].meta}
            for each, answer, extra, side in zip(alone, answers, extras, sides_of, strict=True):
                own = Answers(outputs=answer, masks=extra.masks, penalty=extra.penalty, inputs=sides[side], **known)
                each.add(own)
            together.add(Answers(outputs=self._vote(answers), masks=masks, inputs=sides[0], **known))
            if recorder is not None:
                recorder.add_rows("masks", masks)
                recorder.add_rows("weights", weights)
            penalty = penalty or any(extra.penalty for extra in extras)
        return ListScore(
            name=name,
            samples=len(datasets[0]),
            values=together.values(),
            report=evaluator.report() if evaluator is not None else "",
            notes=(NO_PENALTY,) if penalty else (),
            shown=() if shown is None else tuple(shown.samples),
            models={str(voter.model.path): each.values() for voter, each in zip(voters, alone, strict=True)},
        )


def _listed(lists: Any) -> str:
    return ", ".join(name or "val" for name in lists)
