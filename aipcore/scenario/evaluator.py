"""Evaluators: results over a whole dataset that are not per-batch metrics, such as a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aipcore.errors import ScenarioError
from aipcore.params.author_class import check_author_class
from aipcore.scenario.summaries import Summary

_WAYS: Final = {
    **dict.fromkeys(
        ("add", "call", "evaluate", "handle", "process", "updatestate", "step"),
        "Process a batch in update(targets, outputs, meta).",
    ),
    **dict.fromkeys(("compute", "end", "finish", "getresult", "metrics"), "Return the results from result()."),
    **dict.fromkeys(
        ("begin", "reset", "resetstate", "start"), "aip creates a new evaluator for each pass over the data."
    ),
}


class Evaluator:
    """Collects the outputs of the prediction model over one pass of a dataset, and reports at its end.

    One instance serves one pass; it runs on the host, on NumPy arrays.
    """

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Process one batch.

        Args:
            targets: per name, an array of shape [batch, ...]. The name of a bare target array is "".
            outputs: per name, an array of shape [batch, ...]. The name of a bare output is "".
            meta: the `Sample.meta` of each sample of the batch, or None if the data has none.
        """
        raise TypeError(f"{type(self).__name__} must define update(targets, outputs, meta).")

    def update_results(
        self, targets: Mapping[str, Any], results: Sequence[Mapping[str, Any]], meta: Sequence[Any] | None
    ) -> None:
        """Process one batch of models that vote on results; see `Scenario.vote_results`.

        Only the evaluator of a scenario that defines `vote_results` needs it.

        Args:
            targets: as in `update`, after the processors of the first model.
            results: the joint result of each sample.
            meta: as in `update`.
        """
        raise TypeError(f"{type(self).__name__} must define update_results(targets, results, meta).")

    def result(self) -> dict[str, float]:
        """Return the results by name, logged and shown beside losses and metrics."""
        raise TypeError(f"{type(self).__name__} must define result().")

    def report(self) -> str:
        """Return further text for the user, such as a confusion table; empty for none."""
        return ""

    def summaries(self) -> Iterable[Summary]:
        """Return images, histograms and PR curves of the whole list for TensorBoard; empty for none.

        They are written at each LAV during training, beside the curves of the list. The name of each record must be
        unique and must not be that of a curve of the list.
        """
        return []


def check_evaluator(evaluator: Evaluator | None) -> Evaluator | None:
    """Return the evaluator of a scenario after a check of its methods.

    Raises:
        ScenarioError: it is not an `Evaluator`, a method has an incompatible signature, or aip would ignore a method.
    """
    if evaluator is None:
        return None
    if not isinstance(evaluator, Evaluator):
        raise ScenarioError(f"evaluator() returned {type(evaluator).__name__}. Return an Evaluator, or None.")
    check_author_class(type(evaluator), _WAYS)
    return evaluator


def check_results_evaluator(evaluator: Evaluator | None, scenario: str) -> Evaluator:
    """Return the evaluator of a scenario whose models vote on results, after a check.

    Args:
        evaluator: the evaluator, or None.
        scenario: class name of the scenario.

    Raises:
        ScenarioError: see `check_evaluator`; or it is missing or does not define `update_results`.
    """
    found = check_evaluator(evaluator)
    if found is None or type(found).update_results is Evaluator.update_results:
        lacking = f"{scenario}.evaluator()" if found is None else f"{type(found).__name__}.update_results"
        raise ScenarioError(
            f"{lacking} is not defined, but losses and metrics cannot score models that vote on results. Define an "
            "evaluator with update_results(targets, results, meta)."
        )
    return found
