"""Write docs/parameters.md from the parameter classes and plugins. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from generated_page import cell, write_or_check

from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Section, describe, fill, sections
from aipcore.scenario import ScenarioParams
from aipcore.training.params import run_params_class

HEAD = """# Parameters

The parameters of `aip train` with their defaults. This page is made by `make docs` from the parameter classes. `aip
train SCENARIO ... --help all` shows the parameters of one command line, `aip plugins show NAME` those of one plugin.
The options of a component exist only if it is selected.
"""


def reference() -> str:
    """Return the text of the page."""
    plugins = get_plugin_manager()
    parts = [HEAD, "## Every scenario\n"]
    components = {"optimizer": "optimizer.", "schedule": "learning_rate."}
    for section in sections(fill(run_params_class(ScenarioParams), [], plugins)):
        shown = section
        if section.choice:
            shown = Section(name=section.name, help=section.help, options=section.options[:1])
        parts.append(_table(f"`{section.name}`", shown))
    titles = {"optimizer": "Optimizers", "schedule": "Learning-rate schedules", "callback": "Callbacks"}
    titles |= {"exporter": "Exporters", "scenario": "Scenarios"}
    for kind, title in titles.items():
        parts.append(f"## {title}\n")
        for entry in plugins.of_kind(kind):
            if not entry.plugin.is_own:
                continue
            name = entry.record.name
            prefix = components.get(
                kind, {"callback": f"callbacks.{name}.", "exporter": f"export.formats.{name}."}.get(kind, "")
            )
            options = tuple(describe(plugins.params_class(kind, name), plugins, prefix))
            parts.append(_table(name, Section(name=name, help=entry.record.summary, options=options)))
    return "\n".join(parts)


def _table(title: str, section: Section) -> str:
    lines = [f"### {title}\n", f"{section.help}\n" if section.help else ""]
    if section.options:
        lines += ["| option | default | |", "|---|---|---|"]
    for option in section.options:
        text = option.help + (f" {option.requirement}" if option.limit else "")
        if option.choices:
            text += " One of " + ", ".join(name for name, _ in option.choices) + "."
        if option.aliases:
            text += f" Also: {', '.join(f'`--{alias}`' for alias in option.aliases)}."
        default = "*required*" if option.required else f"`{option.default or 'none'}`"
        lines.append(f"| `--{option.name} {cell(option.metavar)}` | {default} | {cell(text)} |")
    return "\n".join(line for line in lines if line) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check(Path(__file__).parent / "parameters.md", reference()))
