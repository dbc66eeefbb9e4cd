"""Records together with where they came from, and which of them cannot be used because their name is taken."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from aipcore.hooks.discovery import Plugin, Status
from aipcore.hooks.records import PluginRecord
from aipcore.params.names import normalize, one_of

RESERVED_COMMANDS = (
    "benchmark-input-pipeline",
    "completion",
    "doctor",
    "evaluate",
    "export",
    "launch",
    "lav",
    "params",
    "plugins",
    "predict",
    "resume",
    "train",
)
"""Commands that no plugin may register: those of aip, and those that it is going to have."""


@attrs.frozen(kw_only=True)
class Entry:
    """A record and the plugin it came from.

    Attributes:
        record: what was registered.
        plugin: by whom.
        status: "ok", or "broken" if the name is taken.
        reason: why it is broken.
    """

    record: PluginRecord
    plugin: Plugin
    status: Status = "ok"
    reason: str = ""

    @property
    def title(self) -> str:
        """Kind, name and source, for messages."""
        return f"The {self.record.kind} {self.record.name} of {self.plugin.source}"


def index_entries(plugins: Sequence[Plugin]) -> list[Entry]:
    """All records of all plugins, each marked as broken if its name is reserved or registered more than once."""
    entries = [Entry(record=record, plugin=plugin) for plugin in plugins for record in plugin.records]
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_name.setdefault((entry.record.kind, normalize(entry.record.name)), []).append(entry)
    reserved = {normalize(name) for name in RESERVED_COMMANDS}
    checked = []
    for entry in entries:
        rivals = by_name[entry.record.kind, normalize(entry.record.name)]
        if entry.record.kind == "command" and normalize(entry.record.name) in reserved:
            reason = f"{entry.plugin.source} registers the command {entry.record.name}, a name that aip keeps to itself"
            entry = attrs.evolve(entry, status="broken", reason=reason)  # noqa: PLW2901 - the same entry, marked
        elif len(rivals) > 1:
            entry = attrs.evolve(entry, status="broken", reason=_same_name(rivals))  # noqa: PLW2901
        checked.append(entry)
    return checked


def _same_name(rivals: Sequence[Entry]) -> str:
    what = f"the {rivals[0].record.kind} {rivals[0].record.name}"
    if len({entry.plugin.name for entry in rivals}) == 1:
        return f"{rivals[0].plugin.source} registers {what} twice: disable it by -p no:{rivals[0].plugin.name}"
    sources = [entry.plugin.source for entry in rivals]
    both = f"{sources[0]} and {sources[1]} both register" if len(sources) == 2 else f"{' and '.join(sources)} register"
    # Ours can be left out too, but only all of a kind together.
    points = dict.fromkeys(entry.plugin.name for entry in rivals if not entry.plugin.is_own)
    if len(points) == 1:
        return f"{both} {what}: disable the latter by -p no:{next(iter(points))}"
    return f"{both} {what}: disable one by {one_of(f'-p no:{name}' for name in points)}"
