"""Scenarios: what an author writes to have a model trained."""

from aipcore.data.modes import Mode
from aipcore.data.processor import (
    GeneratingProcessor,
    PostProcessor,
    Processor,
    RandomBatchProcessor,
    RandomProcessor,
)
from aipcore.data.samples import Sample, SampleBatch
from aipcore.data.specs import ColumnSpec
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.list_file import ListFileData, ListFileParams, ListFileScenario, matching_files
from aipcore.scenario.params import DataParams, ModelParams, ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary

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
    "Summary",
    "matching_files",
]
