"""Built-in scenarios."""

from __future__ import annotations

from aipcore.plugin import ScenarioRecord, hookimpl


@hookimpl
def aip_scenarios() -> list[ScenarioRecord]:
    """Return the scenarios of this package."""
    return [
        ScenarioRecord(
            name="tutorial",
            summary="Classifies handwritten digits with a small network. The data is included.",
            build="aip_plugins.scenarios.tutorial.scenario:Tutorial",
        ),
        ScenarioRecord(
            name="image_classification",
            summary="Classifies images by the name of their folder. Without lists, it uses the included digits.",
            build="aip_plugins.scenarios.image_classification.scenario:ImageClassification",
        ),
        ScenarioRecord(
            name="tabular_classification",
            summary="Classifies the rows of a CSV or Parquet file. Without files, it uses the included penguins.",
            build="aip_plugins.scenarios.tabular_classification.scenario:TabularClassification",
        ),
        ScenarioRecord(
            name="text_classification",
            summary="Classifies texts by their folder or a column. Without lists, it uses synthetic requests.",
            build="aip_plugins.scenarios.text_classification.scenario:TextClassification",
        ),
        ScenarioRecord(
            name="text_line_recognition",
            summary="Recognizes lines of text in images with CTC. Without lists, it uses rendered lines.",
            build="aip_plugins.scenarios.text_line_recognition.scenario:TextLineRecognition",
        ),
    ]


# Few lines print quickly, and a hundred updates are enough to overfit eight of them.
AIP_TESTING = {"text_line_recognition": {"params": {"data.printed_lines": 60}, "steps": 150}}
