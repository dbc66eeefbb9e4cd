"""Writes the list of checks into docs/testing-plugins.md; `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from aipcore.testing import all_checks
from aipcore.testing.registry import MODULES, ConformanceCheck

TARGET = Path(__file__).parent / "testing-plugins.md"
MARK = "<!-- The rest is made by `make docs` from the docstrings of the checks. -->\n"
TITLES = {"basics": "Every kind", "parameters": "Every kind with parameters"}


def page(old: str) -> str:
    """The text of the page, with the part after the mark made anew."""
    groups: dict[str, list[ConformanceCheck]] = {module: [] for module in MODULES}
    for checks in all_checks().values():
        for check in checks:
            group = groups[check.run.__module__.rpartition(".")[2]]
            if check not in group:
                group.append(check)
    parts = [old.partition(MARK)[0] + MARK]
    for module, checks in groups.items():
        parts.append(f"### {TITLES.get(module, module.capitalize())}\n")
        lines = [f"| `{check.name}` | {check.summary} |" for check in checks]
        parts.append("\n".join(["| check | what it asks |", "|---|---|", *lines]) + "\n")
    return "\n".join(parts)


def main() -> int:
    """Writes the page, or compares it."""
    old = TARGET.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        return 0 if old == new else 1
    TARGET.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
