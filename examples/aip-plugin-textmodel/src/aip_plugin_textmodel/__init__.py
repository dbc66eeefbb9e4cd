"""Registration of the two scenarios: pre-training on unlabelled text, and fine-tuning on a few labelled texts."""

from aipcore.plugin import ScenarioRecord, hookimpl

AIP_API = 1


@hookimpl
def aip_scenarios() -> list[ScenarioRecord]:
    """Return both scenarios."""
    return [
        ScenarioRecord(
            name="docstring_words",
            summary="Pre-trains the packaged model: predicts masked words of docstrings.",
            build="aip_plugin_textmodel.words:DocstringWords",
        ),
        ScenarioRecord(
            name="docstring_topics",
            summary="Fine-tunes the packaged model to classify docstrings by topic from few examples.",
            build="aip_plugin_textmodel.topics:DocstringTopics",
        ),
    ]


# Other words are masked in each epoch, so the model can learn from a few texts but not overfit them completely.
# A few texts of the thousands are enough for the checks.
FEW = {"train.limit": 300, "val.limit": 100}
AIP_TESTING = {"docstring_words": {"overfit": 0.5, "params": FEW}, "docstring_topics": {"params": FEW}}
