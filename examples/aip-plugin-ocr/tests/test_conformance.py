"""The conformance checks of aip for the scenario."""

from aipcore.testing import parametrize_checks


@parametrize_checks("ocr")
def test_scenario(check):
    """The scenario passes the check."""
    check()


@parametrize_checks("ocr-train")
def test_training_in_stages(check):
    """The command passes the check."""
    check()


@parametrize_checks("ocr-report")
def test_report(check):
    """The command passes the check."""
    check()
