"""Write the tables of docs/keras-parity.md from the parity suite. `--check` only compares."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

from generated_page import table, write_or_check

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))

import test_losses
import test_metrics

TARGET = Path(__file__).parent / "keras-parity.md"
MARK = "<!-- The rest is made by `make docs` from tests/parity. -->\n"
CONFIGURATIONS = 4
"""Masked or not, weighted or not."""


def page(old: str) -> str:
    """Return the text of the page with a new part after the mark."""
    heads = collections.Counter(head.name.partition("-")[0] for head in test_losses.combinations())
    losses = [
        (f"`{function}`", f"`{cls}`", str(heads.pop(function) * CONFIGURATIONS))
        for function, (cls, _) in test_losses.LOSSES.items()
    ]
    others = [(f"`{name}`", "", str(count * CONFIGURATIONS)) for name, count in heads.items()]
    metrics = [
        (
            kind,
            ", ".join(f"`{name}`" for name in test_metrics.BY_NAME[kind]),
            ", ".join(f"`{cls.__name__}`" for cls in test_metrics.classes(kind)),
        )
        for kind in test_metrics.BY_NAME
    ]
    return "\n".join(
        [
            old.partition(MARK)[0] + MARK,
            "## Losses compared\n",
            "Each loss is given by name, class, instance, function and custom function. It is compared for vectors and "
            "sequences, for targets of equal and of lower rank, for integers and floats, and with and without a mask "
            "and sample weights, where Keras accepts the combination.\n",
            table("loss | class | combinations", losses + others),
            "## Metrics compared\n",
            "Each metric is compared without and with weights, for vectors and sequences.\n",
            table("targets | by name | by class", metrics),
        ]
    )


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, page(TARGET.read_text(encoding="utf-8"))))
