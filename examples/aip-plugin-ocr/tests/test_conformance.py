"""The conformance checks of aip for the scenario."""

from aipcore.testing import parametrize_checks


@parametrize_checks("ocr")
def test_scenario(check):
    """The scenario passes the check."""
    check()
