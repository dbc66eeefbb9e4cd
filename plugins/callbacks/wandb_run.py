"""A callback that logs to a run of Weights & Biases."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from aip_plugins.callbacks.remote_params import WandBParams
from aip_plugins.callbacks.tracking import Tracker, Values

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
"""File in the folder `wandb` with the last logged epoch, which the files for a later `wandb sync` do not contain."""


class WandB(Tracker):
    """One run of Weights & Biases, whose id is created here.

    W&B can neither remove a value nor accept one of an earlier step. A resumed run therefore skips logged values.
    """

    def __init__(self, params: WandBParams, context: RunContext) -> None:
        super().__init__("Weights & Biases", context, params.timeout)
        self.wandb = params
        self._run: Any = None
        self._logged = 0
        self._left_out = False

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
            name=self.wandb.run_name or folder.name,
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
        self._run.config.update({**self.context.params, "output_dir": str(folder)}, allow_val_change=True)
        self._run.define_metric("*", step_metric="epoch")
        self._logged = max(self._logged_here(), self._run.starting_step - 1)

    def log(self, epoch: int, when: float, values: Values) -> None:
        """Log the values of an epoch that W&B lacks."""
        del when
        if epoch <= self._logged:
            if not self._left_out:
                self._left_out = True
                logger.info(
                    "Weights & Biases already has the epochs up to %d. They are not logged again.", self._logged
                )
            return
        self._run.log({**values, "epoch": epoch}, step=epoch)
        self._logged = epoch
        folder = self.context.output_dir / "wandb"
        write_file(folder / LOGGED, json.dumps({"run_id": self.run_id, "epochs": epoch}) + "\n")

    def finish(self, end: RunEnd) -> None:
        """End the run; online, after everything is sent."""
        self._run.summary["status"] = end.status
        if end.best is not None:
            self._run.summary["best"] = end.best
            self._run.summary["best_epoch"] = end.best_epoch
        if self.wandb.log_model and end.status in ("finished", "stopped"):
            self._log_model()
        self._run.finish(exit_code=EXIT_CODES[end.status])
        if self.wandb.mode == "offline":
            folder = self.context.output_dir / "wandb"
            logger.info("To send the run to Weights & Biases: wandb sync --append %s/offline-run-*", folder)

    def _log_model(self) -> None:
        import wandb

        artifact = wandb.Artifact(f"{self.context.scenario}-{self.run_id}", type="model")
        artifact.add_file(str(self.context.output_dir / "params.json"))
        if (self.context.output_dir / "export").is_dir():
            artifact.add_dir(str(self.context.output_dir / "export"), name="export")
        self._run.log_artifact(artifact)

    def _logged_here(self) -> int:
        try:
            found = read_json(self.context.output_dir / "wandb" / LOGGED)
            return int(found["epochs"]) if found["run_id"] == self.run_id else 0
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return 0


def build(params: WandBParams, context: RunContext) -> WandB:
    """Return the callback."""
    return WandB(params, context)
