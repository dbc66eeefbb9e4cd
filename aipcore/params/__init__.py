"""Typed parameters: attrs classes that become command-line options, files, help and error messages."""

from aipcore.params.checks import Check, above, at_least, between, fraction, regex
from aipcore.params.declare import REQUIRED, component, components, field, group, params

__all__ = [
    "REQUIRED",
    "Check",
    "above",
    "at_least",
    "between",
    "component",
    "components",
    "field",
    "fraction",
    "group",
    "params",
    "regex",
]
