"""The code in docs/data.md runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"


def test_examples_of_the_document() -> None:
    """The code blocks run in order and give the results in the text."""
    names: dict[str, Any] = {"__name__": "document"}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, str(DOCUMENT), "exec"), names)
    assert len(names["samples"]) == 80
    assert names["shapes"] == ((1, 16, 4, 4), (1, 16))
    said = "Halves, Scale once, kept in memory; Noise in each epoch in this process ("
    assert names["pipeline"].describe().startswith(said)
    specs = names["Lines"](None).sample_specs()
    assert names["Pipeline"](names["Folder"](), [names["Scale"]()], specs=specs).dataset().specs() == (*specs, {})
