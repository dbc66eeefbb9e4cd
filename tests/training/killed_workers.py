"""One worker of a run that may be killed: trains `whole`, `killed` (a worker dies in the fourth epoch), or `resumed`.

The chief writes the final state of the run to `END.json` beside the run folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras

from aipcore.cli.cluster import tell_user
from aipcore.distributed.cluster import SECRET, Cluster
from aipcore.distributed.devices import select_devices
from aipcore.distributed.params import DeviceParams
from aipcore.distributed.strategy import joined_processes
from aipcore.training.checkpoint.format import newest_checkpoint
from aipcore.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from several_devices import Evaluated, trainer

WORDS = ("--device.strategy", "multi_worker", "--train.batch_size", "8", "--trainer.accumulate_steps", "2",
         "--trainer.calc_ema", "0.9", "--trainer.ema_batch_norm", "--optimizer", "AdaBelief",
         "--trainer.lav_every_n", "2", "--trainer.epochs", "6")  # fmt: skip


class Kill(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that kills its own process with SIGKILL, as the out-of-memory killer would, in the fourth epoch."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def end_of(run: Trainer) -> dict[str, Any]:
    """Return the results that must not depend on interruptions."""
    arrays = run.state.variables.gather()
    return {
        "history": run.state.history,
        "state": {name: sha256(arrays[name].tobytes()).hexdigest() for name in sorted(arrays)},
        "best": [run.state.monitor.best, run.state.monitor.best_epoch],
    }


def main() -> None:
    """Train."""
    folder, what, victim, index, *addresses = sys.argv[1:]
    output = Path(folder)
    params = DeviceParams(strategy="multi_worker")
    select_devices(params)
    chief = index == "0"
    tell = tell_user(output if chief else None, lambda: None)
    cluster = Cluster(tuple(addresses), int(index), os.environ[SECRET])
    with joined_processes(params, cluster, tell) as processes:
        run = trainer(Evaluated, output if chief else None, *WORDS, processes=processes)
        if what == "resumed":
            run.restore(newest_checkpoint(output / "checkpoint"))
        if what == "killed" and index == victim:
            run.callbacks["kill"] = Kill()
        run.fit()
        end = end_of(run)
        if chief:
            output.with_suffix(".json").write_text(json.dumps(end))


if __name__ == "__main__":
    main()
