"""Write the list of checks into docs/testing-plugins.md. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from generated_page import table, write_or_check

from aipcore.testing import all_checks
from aipcore.testing.registry import MODULES, ConformanceCheck

TARGET = Path(__file__).parent / "testing-plugins.md"
MARK = "<!-- The rest is made by `make docs` from the docstrings of the checks. -->\n"
TITLES = {"basics": "Every kind", "parameters": "Every kind with parameters"}


def page(old: str) -> str:
    """Return the text of the page with a new part after the mark."""
    groups: dict[str, list[ConformanceCheck]] = {module: [] for module in MODULES}
    for checks in all_checks().values():
        for check in checks:
            group = groups[check.run.__module__.rpartition(".")[2]]
            if check not in group:
                group.append(check)
    parts = [old.partition(MARK)[0] + MARK]
    for module, checks in groups.items():
        parts.append(f"### {TITLES.get(module, module.capitalize())}\n")
        parts.append(table("check | requirement", [(f"`{check.name}`", check.summary) for check in checks]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(TARGET.read_text(encoding="utf-8"))))
