"""The plugin under test, as checks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from aipcore.hooks.discovery import Entry
from aipcore.hooks.manager import PluginManager
from aipcore.params import Layer, Resolved, resolve
from aipcore.testing.declaration import Declaration
from aipcore.testing.processes import Processes


class Subject:
    """A plugin, what its author declared, and what a check may use.

    Attributes:
        entry: the plugin's record and where it came from.
        manager: where it was found.
        declared: capabilities.
        processes: further processes that checks of several plugins share.
        folder: an empty folder that is removed after the check.
    """

    def __init__(
        self, entry: Entry, manager: PluginManager, declared: Declaration, processes: Processes, folder: Path
    ) -> None:
        self.entry = entry
        self.manager = manager
        self.declared = declared
        self.processes = processes
        self.folder = folder

    @property
    def kind(self) -> str:
        """The plugin's kind."""
        return self.entry.record.kind

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.entry.record.name

    @cached_property
    def params_class(self) -> type:
        """The plugin's parameter class."""
        return self.manager.params_class(self.kind, self.name)

    @cached_property
    def build(self) -> Callable[..., Any]:
        """What the record's `build` names."""
        return self.manager.load_build(self.kind, self.name)

    def resolved(self, values: Mapping[str, Any] | None = None) -> Resolved[Any]:
        """The parameters: defaults, then what the author declared, then `values` by dotted name."""
        layers = [Layer.from_mapping("declared", self.declared.params), Layer.from_mapping("check", values or {})]
        return resolve(self.params_class, layers, self.manager)

    def params(self, values: Mapping[str, Any] | None = None) -> Any:
        """As `resolved`, but the instance alone."""
        return self.resolved(values).value
