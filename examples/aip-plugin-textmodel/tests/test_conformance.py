"""The conformance checks of aip for a scenario."""

from aipcore.testing import parametrize_checks


@parametrize_checks("docstring_words")
def test_pretraining(check):
    """The pre-training scenario passes the check."""
    check()


@parametrize_checks("docstring_topics")
def test_finetuning(check):
    """The fine-tuning scenario passes the check."""
    check()
