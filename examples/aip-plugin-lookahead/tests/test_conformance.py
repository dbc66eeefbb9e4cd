"""Everything that aip asks of an optimizer."""

from aipcore.testing import parametrize_checks


@parametrize_checks("lookahead")
def test_conformance(check):
    """Each check is a test."""
    check()
