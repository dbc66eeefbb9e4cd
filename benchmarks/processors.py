"""An epoch of the tutorial with its processors, against the same loop on raw arrays; then with random shifts as well.

python benchmarks/processors.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from peers import machine


def main() -> None:
    """Measures in turns and prints."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(machine("tensorflow", "numpy"))
    from aipcore.training.start import import_tensorflow

    import_tensorflow()
    from aip_plugins.scenarios.tutorial.scenario import Tutorial

    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.params import Layer, resolve
    from aipcore.training.params import run_params_class
    from aipcore.training.reporter import EpochReport, Reporter
    from aipcore.training.setup import make_parts
    from aipcore.training.trainer import Trainer

    class Raw(Tutorial):
        def processors(self) -> list[Any]:
            return []

    class Seconds(Reporter):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def epoch_ended(self, report: EpochReport) -> None:
            self.seconds.append(report.seconds)

    plugins = get_plugin_manager()
    for title, words in (("", ()), (" and --data.shift 1", ("--data.shift", "1"))):
        found: dict[type, list[float]] = {Tutorial: [], Raw: []}
        for _ in range(rounds):
            for cls in found:
                common = ["--trainer.epochs", "8", "--trainer.random_seed", "1", "--trainer.jit_compile", "off"]
                layers = [Layer.from_mapping("tutorial", cls.defaults), Layer.from_arguments([*common, *words])]  # type: ignore[attr-defined]
                params: Any = resolve(run_params_class(cls.params_class), layers, plugins).value  # type: ignore[attr-defined]
                reporter = Seconds()
                parts = make_parts(params.trainer, plugins)
                Trainer(cls(params), params, name="t", parts=parts, output_dir=None, reporter=reporter).run()
                found[cls] += reporter.seconds[2:]
        ratio = statistics.median(found[Tutorial]) / statistics.median(found[Raw])
        print(f"tutorial with its processors{title}, epoch to that on raw arrays: {ratio:.2f} times (limit 1.2)")


if __name__ == "__main__":
    main()
