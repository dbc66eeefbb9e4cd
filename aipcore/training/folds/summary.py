"""The mean and the deviation of the values of the folds of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from aipcore.params.names import count
from aipcore.training.runs import Run, history, validations


def best_values(run: Run) -> dict[str, float]:
    """Return the logs of a run's best epoch, or of its last if there is no best one.

    If the best value is that of a validation within the epoch, the results are those of this validation.
    """
    rows = history(run)
    at = run.best_epoch - 1 if run.best_epoch is not None else -1
    if not rows or not -1 <= at < len(rows):
        return {}
    found = [] if run.best_step is None else validations(run)
    best = next((each for each in found if each.get("step") == run.best_step), {})
    return {**rows[at], **{name: value for name, value in best.items() if name.startswith("val_")}}


def mean_and_deviation(values: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean and the sample standard deviation of each value that all folds have."""
    names = [name for name in values[0] if all(name in each for each in values)] if values else []
    finite = [name for name in names if all(math.isfinite(each[name]) for each in values)]
    mean = {name: fmean(each[name] for each in values) for name in finite}
    return mean, {name: stdev(each[name] for each in values) if len(values) > 1 else 0.0 for name in finite}


def summary_lines(mean: Mapping[str, float], deviation: Mapping[str, float], folds: int) -> list[str]:
    """Return the lines with the mean and the deviation of each value."""
    width = max(map(len, mean), default=0)
    shown = [name for name in mean if name not in ("learning_rate", "ema_rate")]
    lines = [f"  {name:<{width}}  {mean[name]:.4f} ± {deviation[name]:.4f}" for name in shown]
    return [f"Mean and standard deviation of {count(folds, 'fold')}, each in its best epoch:", *lines]
