"""Training a scenario, from Python and from the command line. Imports TensorFlow only for training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from aipcore.errors import author_errors
from aipcore.params.resources import planned_copies
from aipcore.training.artifacts import WEIGHTS, find_artifact
from aipcore.training.folds.cross_validation import train_folds
from aipcore.training.reporter import Reporter, TrainResult
from aipcore.training.request import AnyScenario, Request, request_of
from aipcore.training.run_folder import choose_output_dir
from aipcore.training.session import Output, new_folder, session


@author_errors()
def train(
    scenario: AnyScenario,
    params: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train a scenario, as `aip train` does.

    Progress is printed as on the command line; without a terminal, in plain lines. This also works in a thread, where
    signals are not handled, and repeatedly in one process, one run after the other.

    Args:
        scenario: a name, the path of a `.py` file, `"package.module:Class"`, or a class that extends `Scenario`.
        params: parameters that differ from the defaults, nested or by dotted names: `{"optimizer": "adabelief",
            "trainer": {"epochs": 5}, "optimizer.epsilon": 1e-7}`.
        output_dir: the run folder; by default a new `runs/SCENARIO-N`.
        reporter: receives the progress instead of the console.
        quiet: if True, print only warnings.

    Returns:
        The result of the run, with its Keras model.

    Raises:
        AipError: a parameter, the scenario or the folder cannot be used, or training failed.
    """
    return train_request(request_of(scenario, params, output_dir), Output(reporter=reporter, quiet=quiet))


def train_request(request: Request, output: Output) -> TrainResult:
    """Train the scenario of a request; see `train`."""
    resolved = request.checked()
    params = resolved.value.trainer
    if params.folds is not None and params.fold is None:
        return train_folds(request, resolved, output, train_request)
    if params.warmstart.model is not None:
        find_artifact(params.warmstart.model, WEIGHTS)
    cluster = output.find_cluster(params.device)
    output_dir = None
    if cluster is None or not cluster.index:
        output_dir = choose_output_dir(params.output_dir, request.scenario.name)
    with session(params.device, output, cluster, output_dir) as (shown, log, processes):
        from aipcore.training.trainer import Trainer

        opening = None
        if output_dir is not None:
            opening = new_folder(output_dir, planned_copies(resolved.value)[1], log)
        trainer = Trainer.from_request(
            request,
            resolved,
            output_dir=output_dir,
            reporter=shown.reporter,
            processes=processes,
            opening=opening,
            owns_process=output.owns_process,
        )
        return trainer.fit()
