"""Trains three examples on one device and on two, in its own process, and prints the differences as JSON.

TensorFlow can divide its CPU only before its first computation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from plain_loops import LOOPS, TWO_DEVICES, WORDS, Loop, distance

from aipcore.distributed.devices import select_devices
from aipcore.distributed.params import DeviceParams
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario.loader import loaded_class
from aipcore.training.request import make_request
from aipcore.training.trainer import Trainer

EXACT = {"trainer.random_seed": 7, "trainer.jit_compile": "off", "trainer.export_best": False,
         "trainer.export_final": False}  # fmt: skip


def trainer(loop: Loop, *words: str) -> Trainer:
    """Return the trainer of an example."""
    layers = [Layer.from_mapping("scenario", loop.cls.defaults), Layer.from_mapping("test", EXACT),
              Layer.from_arguments((*WORDS, *loop.words, *words))]  # fmt: skip
    return Trainer.from_request(make_request(loaded_class(loop.cls, {}), layers, get_plugin_manager()), output_dir=None)


def differences() -> dict[str, Any]:
    """Return, for each example, the differences between two devices and the plain loop."""
    return {name: distance(loop, trainer(loop, *TWO_DEVICES), parts=2) for name, loop in LOOPS.items()}


if __name__ == "__main__":
    select_devices(DeviceParams(cpus=2))
    sys.stdout.write(json.dumps(differences()))
