"""What data is processed for."""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    """What data is processed for; a processor says for which modes it works.

    Attributes:
        TRAINING: to learn from. Random processors draw anew on each visit of a sample.
        EVALUATION: to compare outputs with targets: validation, LAV. Random processors, if any, draw once and for all.
        PREDICTION: only inputs are there.
        TARGETS: only targets are there, to be compared with stored outputs.
    """

    TRAINING = "training"
    EVALUATION = "evaluation"
    PREDICTION = "prediction"
    TARGETS = "targets"


ALL_MODES = frozenset(Mode)
