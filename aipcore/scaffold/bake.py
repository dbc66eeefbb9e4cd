"""Rendering of templates and writing of new packages."""

from __future__ import annotations

import os
import shutil
import string
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.discovery import KINDS
from aipcore.scaffold.names import Names

COMMON = "common"
"""Folder of the templates for all kinds. Those in the folder of a kind are added."""

SUFFIX = ".in"

FACTS = {
    "optimizer": ("aip train tutorial --optimizer {plugin}", "An optimizer", "aip_optimizers", '"keras>=3.15"'),
    "schedule": ("aip train tutorial --learning_rate {plugin}", "A learning-rate schedule", "aip_schedules", '"keras"'),
    "scenario": ("aip train {plugin}", "A scenario", "aip_scenarios", '"keras"'),
    "callback": ("aip train tutorial --callbacks {plugin}", "A callback", "aip_callbacks", '"keras"'),
    "exporter": ("aip train tutorial --export.formats {plugin}", "An exporter", "aip_exporters", '"numpy"'),
    "writer": ("aip predict MODEL --output found.{plugin}", "A writer of predictions", "aip_writers", '"numpy"'),
    "command": ("aip {plugin}", "A command", "aip_commands", '"click"'),
}
"""Usage, noun, hook and required package, by kind."""


class Template(string.Template):
    """Text with `@@name` placeholders: `$` and braces occur in the templates themselves."""

    delimiter = "@@"


def bake(names: Names, folder: Path) -> list[Path]:
    """Write a new package.

    Args:
        names: names of the plugin.
        folder: folder to create; it must not exist.

    Returns:
        the paths of the files, relative to `folder`.

    Raises:
        PluginError: `folder` exists or cannot be written.
    """
    if os.path.lexists(folder):
        raise PluginError(f"{folder} already exists. Choose another folder with --output.")
    contents = render(names)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            fresh.chmod(0o755)
            for path, text in contents.items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_text(text, encoding="utf-8", newline="\n")
            fresh.rename(folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except OSError as error:
        raise PluginError(
            f"{folder} cannot be written ({error.strerror or error}). Choose another --output."
        ) from error
    return [Path(path) for path in sorted(contents)]


def render(names: Names) -> dict[str, str]:
    """Return the text of each file of the package, by its path in the package."""
    use, article, hook, requirement = FACTS[names.kind]
    values = {
        **attrs.asdict(names),
        "use": use.format(plugin=names.plugin),
        "what": article,
        "hook": hook,
        "requirement": requirement,
        "aip": version("aipcore"),
    }
    templates = files(__package__) / "templates"
    texts: dict[str, str] = {}
    for part in (COMMON, names.kind):
        for path, template in _templates(templates / part, PurePosixPath()):
            target = str(path).replace("dot_", ".").replace("PACKAGE", names.package).removesuffix(SUFFIX)
            texts[target] = Template(template.read_text(encoding="utf-8")).substitute(values)
    return texts


def _templates(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, path / entry.name)
        elif entry.name.endswith(SUFFIX):
            yield path / entry.name, entry


def next_commands(names: Names, folder: Path) -> list[str]:
    """Return the commands that an author runs next."""
    return [
        f"cd {folder}",
        "python -m pip install --editable '.[test]'",
        f"aip plugins check {names.plugin}",
        "python -m pytest",
        FACTS[names.kind][0].format(plugin=names.plugin),
    ]


assert set(FACTS) == set(KINDS)
