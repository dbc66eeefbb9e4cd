"""The packages in examples/ import only public names, so that each could be a repository of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(ROOT.glob("examples/aip-plugin-*"))
PAGES = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("api.md", "hooks.md"))
EXTENDED = ("aip_plugins.scenarios.text_line_recognition.", "aip_plugins.scenarios.image_file.")
"""A shipped scenario that packages may extend, and the function that reads its images; see docs/scenarios.md."""


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_only_public_names(package: Path) -> None:
    """Each name of aip that a package imports is in docs/api.md or docs/hooks.md."""
    private = []
    for file in package.glob("src/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                private += [each.name for each in node.names if each.name.startswith("aipcore.")]
            module = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
            if module.partition(".")[0] == "aipcore":
                imports = {each.name for each in node.names}  # type: ignore[attr-defined]
                private += [f"{file.name}: {module}.{name}" for name in imports if f"`{name}" not in PAGES]
            elif module.startswith("aip_plugins"):
                private += [] if f"{module}.".startswith(EXTENDED) else [f"{file.name}: {module}"]
    assert private == []
