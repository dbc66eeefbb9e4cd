"""The check of the language of pages, docstrings, comments and messages."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The script of the check as a module."""
    spec = importlib.util.spec_from_file_location("check_language", ROOT / "docs" / "check_language.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_found(check: ModuleType) -> None:
    """All pages and modules pass, with few exceptions."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a clone")
    assert [f"{path}:{line}: {reason}" for path in check.tracked() for line, reason in check.findings(path)] == []
    assert len(check.ALLOWED) <= 15


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "The run\ngoes on from its checkpoint."),
        ("page.md", "There is a plan. 3 is no finite number."),
        ("module.py", 'def name() -> str:\n    """What the model is called."""\n'),
        ("module.py", '"""Names."""\n\n# Whoever hears of it.\n'),
        ("module.py", '"""Errors."""\n\nTEXT = f"{1}: mend the file."\n'),
    ],
)
def test_a_planted_sentence_is_found(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """A sentence against the rules is found in prose, docstrings, comments and messages."""
    monkeypatch.setattr(check, "ROOT", tmp_path)
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert len(list(check.findings(path))) >= 1
    path.write_text(f"```\n{text}\n```\n" if name.endswith("md") else '"""Fine."""\n', encoding="utf-8")
    assert list(check.findings(path)) == []
