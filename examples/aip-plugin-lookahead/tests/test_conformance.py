"""The conformance checks of aip for an optimizer."""

from aipcore.testing import parametrize_checks


@parametrize_checks("lookahead")
def test_conformance(check):
    """The optimizer passes the check."""
    check()
