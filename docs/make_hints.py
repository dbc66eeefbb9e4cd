"""Write aipcore/params/tfaip.json from the tables in docs/coming-from-tfaip.md. `--check` only compares.

The file lists the options of tfaip that have another name in aip or none. Each row has the parameter class, the
equivalent in aip ("" for none), and the first sentence of the difference.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from generated_page import write_or_check

SOURCE = Path(__file__).parent / "coming-from-tfaip.md"
TARGET = Path(__file__).parents[1] / "aipcore" / "params" / "tfaip.json"
NAME = re.compile(r"`(\w+)`")


def hints(page: str) -> dict[str, list[tuple[str, str, str]]]:
    """Return the rows by the name of the option."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    options = page[page.index("\n## Options\n") : page.index("\n## Files of a run\n")]
    for section in options.split("\n### ")[1:]:
        group = section.split()[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")] if line.startswith("| ") else []
            if len(cells) < 2:
                continue
            # The words after "of" or a colon are classes.
            names = [name for part in cells[0].split(";") for name in NAME.findall(re.split(r" of |: ", part)[0])]
            given = re.findall(r"`([^`]+)`", cells[1])
            if cells[1] != "none" and not cells[1].startswith("`"):
                continue
            note = cells[2] if len(cells) > 2 and "](" not in cells[2] and "below" not in cells[2] else ""
            note = note.replace("`", "").split(". ")[0]
            each = {name: ("" if cells[1] == "none" else cells[1].replace("`", ""), note) for name in names}
            if len(names) == len(given) > 1:
                each = {name: (meant, "") for name, meant in zip(names, given, strict=True)}
            for name, (meant, text) in each.items():
                if meant.rpartition(".")[2] != name:
                    found.setdefault(name, []).append((group, meant, text))
    return found


if __name__ == "__main__":
    rows = hints(SOURCE.read_text(encoding="utf-8"))
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(rows.items()))
    sys.exit(write_or_check(TARGET, f"{{\n{text}\n}}\n"))
