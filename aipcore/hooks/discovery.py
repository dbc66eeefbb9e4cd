"""Which plugins are installed, and which of them the user wants; nothing of theirs is imported here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Literal

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.markers import PROJECT
from aipcore.hooks.records import PluginRecord
from aipcore.params.names import nearest, normalize, one_of

OWN_DISTRIBUTION = "aipcore"

Status = Literal["ok", "disabled", "broken"]


@attrs.frozen(kw_only=True)
class Plugin:
    """One entry point and what became of it.

    Attributes:
        name: of the entry point; what `-p no:NAME` takes.
        module: what the entry point names, a module or `module:attribute`.
        distribution: the installed package it belongs to.
        version: of that package.
        status: whether it was loaded.
        reason: why it is disabled or broken.
        error: what it raised, for a traceback.
        seconds: that loading took.
        records: what it registered.
    """

    name: str
    module: str
    distribution: str
    version: str
    status: Status = "ok"
    reason: str = ""
    error: BaseException | None = attrs.field(default=None, repr=False, eq=False)
    seconds: float = 0.0
    records: tuple[PluginRecord, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it comes with aip."""
        return normalize(self.distribution) == OWN_DISTRIBUTION

    @property
    def source(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"

    def answers_to(self, name: str) -> bool:
        """Whether a switch that names an entry point or a distribution means this plugin."""
        return normalize(name) in (normalize(self.name), normalize(self.distribution))


@attrs.frozen(kw_only=True)
class Switches:
    """Which plugins to leave out.

    Attributes:
        disabled: entry points or distributions, from `-p no:NAME`.
        third_party: whether plugins that do not come with aip are loaded; `--no-plugins` turns them off.
        only: the third-party entry points or distributions to load, from `AIP_LOAD_PLUGINS`; None for all.
        strict: whether a broken plugin is an error, from `AIP_STRICT_PLUGINS=1`.
    """

    disabled: tuple[str, ...] = ()
    third_party: bool = True
    only: tuple[str, ...] | None = None
    strict: bool = False

    @classmethod
    def from_environment(cls, *, disabled: Sequence[str] = (), third_party: bool = True) -> Switches:
        """The switches of the command line together with those of the environment."""
        only = os.environ.get("AIP_LOAD_PLUGINS")
        return cls(
            disabled=tuple(disabled),
            third_party=third_party,
            only=None if only is None else tuple(name.strip() for name in only.split(",") if name.strip()),
            strict=os.environ.get("AIP_STRICT_PLUGINS", "") not in ("", "0"),
        )

    def reason_against(self, plugin: Plugin) -> str:
        """Why a plugin is disabled; empty if it is not."""
        for name in self.disabled:
            if plugin.answers_to(name):
                return f"disabled by -p no:{name}"
        if plugin.is_own:
            return ""
        if not self.third_party:
            return "disabled by --no-plugins"
        if self.only is not None and not any(plugin.answers_to(name) for name in self.only):
            return "not named in AIP_LOAD_PLUGINS"
        return ""

    def check(self, plugins: Sequence[Plugin]) -> None:
        """Sees that every name means an installed plugin.

        Raises:
            PluginError: a name means none.
        """
        for switch, names in (("-p no:", self.disabled), ("AIP_LOAD_PLUGINS=", self.only or ())):
            for name in names:
                if any(plugin.answers_to(name) for plugin in plugins):
                    continue
                known = dict.fromkeys(each for plugin in plugins for each in (plugin.name, plugin.distribution))
                near = nearest(name, known)
                hint = f"did you mean {one_of(near)}?" if near else "`aip plugins list` shows all there are."
                raise PluginError(f"{switch}{name}: no plugin of this name is installed; {hint}")


def installed() -> list[tuple[EntryPoint, Plugin]]:
    """The entry points of the group `aip`, ours first, then by distribution and name.

    Of two copies of one distribution on `sys.path`, the first counts, as it does for `import`.
    """
    pairs = [(point, _plugin(point)) for point in entry_points(group=PROJECT)]
    pairs.sort(key=lambda pair: (not pair[1].is_own, normalize(pair[1].distribution), pair[1].name))
    return pairs


def _plugin(point: EntryPoint) -> Plugin:
    name, version = _identity(point.dist) if point.dist is not None else ("unknown", "unknown")
    return Plugin(name=point.name, module=point.value, distribution=name, version=version)


def _identity(distribution: Distribution) -> tuple[str, str]:
    # Distribution.name and .version parse the whole metadata, README included, as an e-mail: with hundreds of plugins
    # that takes longer than importing them.
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    found = {"name": "unknown", "version": "unknown"}
    for line in text.splitlines():
        if not line:
            break
        key, colon, value = line.partition(":")
        if colon and key.lower() in found:
            found[key.lower()] = value.strip()
    return found["name"], found["version"]
