"""LAV during training: each list, its evaluator, and its output."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aipcore.scenario.evaluator import check_evaluator
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.shown_samples import show_samples
from aipcore.scenario.summaries import Summary
from aipcore.training.engine.evaluate import Evaluation
from aipcore.training.tensorboard.summary_records import records_of


@attrs.frozen(kw_only=True, eq=False)
class Validated:
    """The results of one LAV.

    Attributes:
        results: losses, metrics and evaluator results by part: `lav` for the validation data, `lav_NAME` for a separate
            list.
        texts: reports of evaluators, and samples to print.
        records: the evaluators' records for TensorBoard, by part.
    """

    results: dict[str, dict[str, float]]
    texts: list[str]
    records: dict[str, list[Summary]]


def run_lists(scenario: Scenario, lists: Mapping[str, Evaluation], *, is_chief: bool) -> Validated:
    """Run the prediction graph and a new evaluator over each list.

    Args:
        scenario: creates the evaluators.
        lists: evaluations by name; the validation data has the name "".
        is_chief: True for the worker whose evaluators receive all outputs.

    Raises:
        ScenarioError: TensorBoard cannot show an evaluator's record, or a sample cannot be described.
    """
    found = Validated(results={}, texts=[], records={})
    for name, evaluation in lists.items():
        part = f"lav_{name}" if name else "lav"
        evaluator = check_evaluator(scenario.evaluator())
        shown = show_samples(scenario, evaluator, len(evaluation.dataset))
        found.results[part] = evaluation.run(shown or evaluator)
        texts = [] if shown is None else [str(sample) for sample in shown.samples]
        if evaluator is not None and is_chief:
            texts.insert(0, evaluator.report())
            if records := records_of(evaluator, list(found.results[part])):
                found.records[part] = records
        found.texts.extend(f"{name}: {text}" if name else text for text in texts if text)
    return found
