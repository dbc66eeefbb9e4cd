"""A callback that logs to a run of Weights & Biases."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from aip_plugins.callbacks.remote_params import WandBParams
from aip_plugins.callbacks.tracking import Point, Tracker

from aipcore.files import read_json
from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext
from aipcore.training.checkpoint.atomic import write_file

logger = logging.getLogger("aipcore.callbacks")

EXIT_CODES = {"finished": 0, "stopped": 0, "interrupted": 255, "failed": 1}
"""Exit codes that W&B shows as finished, killed and failed."""

INIT_SECONDS = 30.0
"""The most seconds of an attempt to begin."""

LOGGED = "aip.json"
"""File in the folder `wandb` with the last logged point, which the files for a later `wandb sync` do not contain."""


class WandB(Tracker):
    """One run of Weights & Biases, whose id is created here. Its steps are the numbers of the points.

    W&B can neither remove a value nor accept one of an earlier step. A resumed run therefore skips logged points.
    """

    def __init__(self, params: WandBParams, context: RunContext) -> None:
        super().__init__("Weights & Biases", params, context)
        self.wandb = params
        self._run: Any = None
        self._logged = 0
        self._left_out = False
        self._defined: set[str] = set()

    def open(self) -> None:
        """Begin or resume the run."""
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        try:
            self._open(wandb)
        except Exception:
            # Otherwise W&B considers the id in use, and the next attempt fails.
            wandb.teardown()
            raise

    def _open(self, wandb: Any) -> None:
        folder = self.context.output_dir.absolute()
        self._run = wandb.init(
            id=self.run_id,
            resume="allow",
            dir=folder,
            mode=self.wandb.mode,
            project=self.wandb.project or os.environ.get("WANDB_PROJECT") or self.context.scenario,
            entity=self.wandb.entity,
            name=self.run_name,
            group=self.wandb.group,
            tags=list(self.wandb.tags) or None,
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                allow_val_change=True,
                init_timeout=INIT_SECONDS,
                finish_timeout=self.wandb.timeout,
                finish_timeout_raises=True,
            ),
        )
        # W&B itself shows nested parameters by their dotted names.
        self._run.config.update({**self.context.params, "output_dir": str(folder)}, allow_val_change=True)
        self._logged = max(self._logged_here(), self._run.starting_step - 1)

    def log(self, points: list[Point]) -> None:
        """Log the points that W&B lacks."""
        for point in points:
            if point.number <= self._logged:
                if not self._left_out:
                    self._left_out = True
                    logger.info(
                        "Weights & Biases already has values from %s %d on. They are not logged again.",
                        point.axis, point.place,
                    )  # fmt: skip
                continue
            for name in sorted(point.values.keys() - self._defined):
                self._run.define_metric(name, step_metric=point.axis)
                self._defined.add(name)
            self._run.log({**point.values, point.axis: point.place}, step=point.number)
            self._logged = point.number
        content = {"run_id": self.run_id, "points": self._logged}
        write_file(self.context.output_dir / "wandb" / LOGGED, json.dumps(content) + "\n")

    def finish(self, end: RunEnd, outcome: dict[str, Any], files: list[Path]) -> None:
        """End the run; online, after everything is sent."""
        self._run.summary.update(outcome)
        if files:
            import wandb

            artifact = wandb.Artifact(f"{self.context.scenario}-{self.run_id}", type="model")
            for path in files:
                (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path), name=path.name)
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=EXIT_CODES[end.status])
        if self.wandb.mode == "offline":
            folder = self.context.output_dir / "wandb"
            logger.info("To send the run to Weights & Biases: wandb sync --append %s/offline-run-*", folder)

    def _logged_here(self) -> int:
        try:
            found = read_json(self.context.output_dir / "wandb" / LOGGED)
            return int(found["points"]) if found["run_id"] == self.run_id else 0
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return 0


def build(params: WandBParams, context: RunContext) -> WandB:
    """Return the callback."""
    return WandB(params, context)
