"""Scenarios: an author's data, model, losses and metrics."""

from aipcore.data.processor import (
    GeneratingProcessor,
    Mode,
    PostProcessor,
    Processor,
    RandomBatchProcessor,
    RandomProcessor,
)
from aipcore.data.sample import ColumnSpec, Sample, SampleBatch
from aipcore.data.stream import Stream
from aipcore.scenario.class_weights import adapted_classes
from aipcore.scenario.ctc import ctc_loss
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.list_file import ListFileData, ListFileParams, ListFileScenario, matching_files
from aipcore.scenario.params import DataParams, ModelParams, ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary
from aipcore.scenario.tables import read_columns
from aipcore.scenario.updates import TargetNetwork, Update

__all__ = [
    "ColumnSpec",
    "DataParams",
    "Evaluator",
    "GeneratingProcessor",
    "Histogram",
    "Image",
    "ImageGrid",
    "ListFileData",
    "ListFileParams",
    "ListFileScenario",
    "Mode",
    "ModelParams",
    "PRCurve",
    "PostProcessor",
    "Processor",
    "RandomBatchProcessor",
    "RandomProcessor",
    "Sample",
    "SampleBatch",
    "Scenario",
    "ScenarioParams",
    "Stream",
    "Summary",
    "TargetNetwork",
    "Update",
    "adapted_classes",
    "ctc_loss",
    "matching_files",
    "read_columns",
]
