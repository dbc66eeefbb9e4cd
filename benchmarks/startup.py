"""Startup time of `aip`, relative to importing its libraries, in whole processes.

Prints the median of several runs of each command, in turns, and its ratio to
`import click, rich, attrs, cattrs, pluggy`. Then prints the time of `aip plugins list` with 500 more plugins installed,
one of them broken, relative to the time without them.

    python benchmarks/startup.py [RUNS]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PEER = [sys.executable, "-c", "import click, rich, attrs, cattrs, pluggy"]
AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]
COMMANDS = {
    "aip --version": ["--version"],
    "aip --help": ["--help"],
    "aip plugins list": ["plugins", "list"],
    "aip train tutorial --help": ["train", "tutorial", "--help"],
    "aip train tutorial --optimiser sgd": ["train", "tutorial", "--optimiser", "sgd"],
}
PEER_LIMIT = 2.5
PLUGINS = 500
PLUGINS_LIMIT = 10

PLUGIN = """
from aipcore.plugin import OptimizerParams, OptimizerRecord, field, hookimpl, params

@params
class Params(OptimizerParams):
    twist: float = field(0.5, help="How much.")

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="Made{number}", summary="Made up.", params=Params, build="made{number}:build")]
"""


def medians(commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], runs: int) -> dict[str, float]:
    """Return the median seconds of each command, run in turns after one run that fills the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            if run > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def install_plugins(site: Path) -> None:
    """Install many distributions with one plugin each, one of them broken."""
    for number in range(PLUGINS):
        source = "1 / 0" if number == PLUGINS // 2 else PLUGIN.replace("{number}", str(number))
        (site / f"made{number}.py").write_text(source)
        info = site / f"made{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[aip]\nmade{number} = made{number}\n")


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        caches, site = Path(folder, "caches"), Path(folder, "site")
        site.mkdir()
        install_plugins(site)
        # Compile the sources once, as for installed packages, even if Python cannot write next to them.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "PYTHON"))}
        environment = {**kept, "PYTHONPYCACHEPREFIX": str(caches)}
        times = medians({"peer": PEER, **{name: [*AIP, *words] for name, words in COMMANDS.items()}}, environment, runs)
        print(f"{'import click, rich, attrs, cattrs, pluggy':42} {1000 * times['peer']:6.0f} ms")
        for name in COMMANDS:
            ratio = times[name] / times["peer"]
            met = "met" if ratio <= PEER_LIMIT else "NOT met"
            print(f"{name:42} {1000 * times[name]:6.0f} ms  {met}: {ratio:.2f} times (limit {PEER_LIMIT})")
        few = medians({"list": [*AIP, "plugins", "list"]}, environment, runs)["list"]
        many = medians({"list": [*AIP, "plugins", "list"]}, {**environment, "PYTHONPATH": str(site)}, runs)["list"]
        label = f"aip plugins list with {PLUGINS} more plugins"
        met = "met" if many / few <= PLUGINS_LIMIT else "NOT met"
        print(f"{label:42} {1000 * many:6.0f} ms  {met}: {many / few:.2f} times as without (limit {PLUGINS_LIMIT})")


if __name__ == "__main__":
    main()
