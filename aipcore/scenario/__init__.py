"""Scenarios: what an author writes to have a model trained."""

from aipcore.data.samples import Sample
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.params import DataParams, ModelParams, ScenarioParams
from aipcore.scenario.scenario import Scenario

__all__ = ["DataParams", "Evaluator", "ModelParams", "Sample", "Scenario", "ScenarioParams"]
