"""Time of a tutorial epoch with its processors, relative to raw arrays; then also with random shifts.

python benchmarks/processors.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from peers import machine


def main() -> None:
    """Measure in turns and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(machine("tensorflow", "numpy"))
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    from aip_plugins.scenarios.tutorial.scenario import Tutorial

    import aipcore as aip
    from aipcore.training.reporter import EpochReport, Reporter

    class Raw(Tutorial):
        def processors(self) -> list[Any]:
            return []

    class Seconds(Reporter):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def epoch_ended(self, report: EpochReport) -> None:
            self.seconds.append(report.seconds)

    common = {"trainer.epochs": 8, "trainer.random_seed": 1, "trainer.jit_compile": "off"}
    for title, more in (("", {}), (" and --data.shift 1", {"data.shift": 1})):
        found: dict[type, list[float]] = {Tutorial: [], Raw: []}
        for _ in range(rounds):
            for cls in found:
                reporter = Seconds()
                aip.Trainer.from_scenario(cls, {**common, **more}, reporter=reporter).fit()
                found[cls] += reporter.seconds[2:]
        ratio = statistics.median(found[Tutorial]) / statistics.median(found[Raw])
        print(f"tutorial epoch with its processors{title} vs. raw arrays: {ratio:.2f} times (limit 1.2)")


if __name__ == "__main__":
    main()
