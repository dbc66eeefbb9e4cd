"""Typed parameters: attrs classes that define command-line options, files, help and error messages."""

from aipcore.params.checks import Check, above, at_least, between, fraction, positions, regex
from aipcore.params.declare import (
    NO_CHOICES,
    REQUIRED,
    Choice,
    Choices,
    StaticChoices,
    component,
    components,
    field,
    group,
    params,
)
from aipcore.params.dump import to_dict, to_json, to_yaml
from aipcore.params.files import Layer
from aipcore.params.help import Description, Section, describe, sections
from aipcore.params.names import nearest, normalize, one_of
from aipcore.params.resolve import Resolved, fill, from_dict, resolve

__all__ = [
    "NO_CHOICES",
    "REQUIRED",
    "Check",
    "Choice",
    "Choices",
    "Description",
    "Layer",
    "Resolved",
    "Section",
    "StaticChoices",
    "above",
    "at_least",
    "between",
    "component",
    "components",
    "describe",
    "field",
    "fill",
    "fraction",
    "from_dict",
    "group",
    "nearest",
    "normalize",
    "one_of",
    "params",
    "positions",
    "regex",
    "resolve",
    "sections",
    "to_dict",
    "to_json",
    "to_yaml",
]
