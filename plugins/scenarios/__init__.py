"""Built-in scenarios."""

from __future__ import annotations

from aipcore.plugin import ScenarioRecord, hookimpl


@hookimpl
def aip_scenarios() -> list[ScenarioRecord]:
    """Return the scenarios of this package."""
    return [
        ScenarioRecord(
            name="tutorial",
            summary="Handwritten digits, classified by a small network; the data comes with aip.",
            build="aip_plugins.scenarios.tutorial.scenario:Tutorial",
        ),
        ScenarioRecord(
            name="image_classification",
            summary="Images told apart by the folders they lie in; digits without any.",
            build="aip_plugins.scenarios.image_classification.scenario:ImageClassification",
        ),
        ScenarioRecord(
            name="text_line_recognition",
            summary="Images of lines to text, by CTC; lines that it prints itself without any.",
            build="aip_plugins.scenarios.text_line_recognition.scenario:TextLineRecognition",
        ),
    ]


# Few lines print quickly, and a hundred updates are enough to overfit eight of them.
AIP_TESTING = {"text_line_recognition": {"params": {"data.printed_lines": 60}, "steps": 150}}
