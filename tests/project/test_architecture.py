"""The structure of the code: no import cycles, valid places in the architecture page, and a small public Trainer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "aipcore"


def modules() -> dict[str, ast.Module]:
    """Return all modules of the core by name."""
    found = {}
    for path in CORE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module, names: set[str]) -> set[str]:
    """Return the modules of the core that a module imports, including imports in functions and for type checkers."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in names else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & names


def circles(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """Yield the sets of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for following in graph[waiting.pop()] - seen:
                seen.add(following)
                waiting.append(following)
        reached[start] = seen
    for name, others in reached.items():
        circle = {other for other in others if name in reached[other]}
        if len(circle) > 1:
            yield circle


def test_no_modules_import_each_other() -> None:
    """There is no import cycle, counting imports inside functions and those for type checkers."""
    trees = modules()
    graph = {name: imported(tree, set(trees)) - {name} for name, tree in trees.items()}
    assert list(circles(graph)) == []
    graph["aipcore.errors"] = {"aipcore.training.trainer"}
    assert list(circles(graph)), "a planted circle is found"


def test_only_faces_import_the_trainer() -> None:
    """Within training, only `train` and `resume` import the trainer; all other modules receive values."""
    trees = modules()
    users = {name for name, tree in trees.items() if "aipcore.training.trainer" in imported(tree, set(trees))}
    inside = {name for name in users if name.startswith("aipcore.training.")}
    assert inside == {"aipcore.training.train", "aipcore.training.resume"}


def test_places_of_the_architecture_page_exist() -> None:
    """Each file on the page exists, and defines the names beside it."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:aipcore|plugins)[\w/]*(?:\.py)?)`(?:,\s+`(\w+)`)?", text)
    assert len(named) > 50
    for place, name in named:
        path = ROOT / place
        assert path.exists(), place
        if name:
            assert re.search(rf"^(class|def) {name}\b", path.read_text(encoding="utf-8"), re.MULTILINE), (place, name)


def test_public_face_of_the_trainer() -> None:
    """The public interface of `Trainer` is small, and each attribute is in its documentation."""
    (trainer,) = (node for node in modules()["aipcore.training.trainer"].body if isinstance(node, ast.ClassDef))
    methods = {node.name for node in trainer.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}
    assigned = {
        node.attr
        for node in ast.walk(trainer)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and node.attr[0] != "_"
    }
    assert methods == {"from_scenario", "from_request", "restore", "compile", "fit", "plan", "model"}
    assert assigned == {
        "scenario", "params", "output_dir", "about", "processes", "data", "engine", "callbacks", "state",
    }  # fmt: skip
    documentation = ast.get_docstring(trainer) or ""
    assert all(re.search(rf"^ +{name}: ", documentation, re.MULTILINE) for name in assigned)
