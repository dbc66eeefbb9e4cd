"""Everything that aip asks of a scenario."""

from aipcore.testing import parametrize_checks


@parametrize_checks("docstring_words")
def test_pretraining(check):
    """Each check is a test."""
    check()


@parametrize_checks("docstring_topics")
def test_finetuning(check):
    """Each check is a test."""
    check()
