"""The plugin under test, in the form that checks receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from aipcore.hooks.discovery import Entry
from aipcore.hooks.manager import PluginManager
from aipcore.params import Layer, Resolved, resolve
from aipcore.testing.declaration import Declaration
from aipcore.testing.processes import Made, Processes


class Subject:
    """A plugin, its declaration, and resources for a check.

    Attributes:
        entry: record and source of the plugin.
        manager: plugin manager.
        declared: declaration of the plugin.
        processes: subprocesses shared by the checks of several plugins.
        folder: empty folder that is removed after the check.
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
        """The object that the record's `build` names."""
        return self.manager.load_build(self.kind, self.name)

    def resolved(self, values: Mapping[str, Any] | None = None) -> Resolved[Any]:
        """Return the resolved parameters: defaults, declared values, then `values` by dotted name."""
        layers = [Layer.from_mapping("declared", self.declared.params), Layer.from_mapping("check", values or {})]
        return resolve(self.params_class, layers, self.manager)

    def shared(self, name: str, make: Callable[[Path], Made]) -> Made:
        """Return the result of `make`, which is called once for all checks of this plugin; see `Processes.shared`."""
        # A plugin may be checked with several declarations.
        return self.processes.shared((self.kind, self.name, repr(self.declared), name), make)

    def params(self, values: Mapping[str, Any] | None = None) -> Any:
        """Return the parameter instance of `resolved`."""
        return self.resolved(values).value
