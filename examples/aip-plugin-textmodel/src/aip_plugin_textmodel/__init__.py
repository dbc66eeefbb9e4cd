"""Registers the two scenarios: pre-training on text without labels, and fine-tuning on a few labelled texts."""

from aipcore.plugin import ScenarioRecord, hookimpl

AIP_API = 1


@hookimpl
def aip_scenarios() -> list[ScenarioRecord]:
    """Both scenarios."""
    return [
        ScenarioRecord(
            name="docstring_words",
            summary="Learns to guess words that are left out of docstrings: how the packaged model was trained.",
            build="aip_plugin_textmodel.words:DocstringWords",
        ),
        ScenarioRecord(
            name="docstring_topics",
            summary="Learns what a docstring is about from few examples, beginning with the packaged model.",
            build="aip_plugin_textmodel.topics:DocstringTopics",
        ),
    ]


# Other words are hidden in each epoch: those of few texts can be learnt, but not by heart.
AIP_TESTING = {"docstring_words": {"overfit": 0.5}}
