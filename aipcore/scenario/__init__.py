"""Scenarios: what an author writes to have a model trained."""

from aipcore.data.samples import Sample
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.params import DataParams, ModelParams, ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.summaries import Histogram, Image, ImageGrid, PRCurve, Summary

__all__ = [
    "DataParams",
    "Evaluator",
    "Histogram",
    "Image",
    "ImageGrid",
    "ModelParams",
    "PRCurve",
    "Sample",
    "Scenario",
    "ScenarioParams",
    "Summary",
]
