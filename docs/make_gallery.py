"""Draw the training curves in docs/images/gallery/ from real runs: `python docs/make_gallery.py [NAME ...]`.

Each picture `images/gallery/NAME.svg` of docs/examples.md shows the last `aip train` of the block above it, so the page
itself defines the runs. It is not part of `make docs`, since all runs take a quarter of an hour.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from page_blocks import ROOT, blocks

PAGE = ROOT / "docs" / "examples.md"
PICTURE = re.compile(r"!\[[^\]]*\]\(images/gallery/([\w-]+)\.svg\)")
PROGRAMS = Path(sys.executable).parent
SEED = "1"

WIDTH, HEIGHT, TOP, BOTTOM, LEFT, GAP = 470, 176, 44, 26, 52, 22
"""Size of the picture and of the margins of a plot, in pixels."""

LIGHT = "{--text:#55606d;--c0:#3b5bdb;--c1:#c2410c}"
DARK = "{--text:#b4bcc8;--c0:#91a7ff;--c1:#ff9f5a}"
STYLE = f"""<style>
.aip-figure{{max-width:100%;height:auto}}
.aip-figure text{{font-size:12px;font-family:var(--md-text-font-family,system-ui,sans-serif);fill:var(--text)}}
.aip-figure .title{{font-weight:600}}
.aip-figure .grid{{stroke:var(--text);stroke-opacity:.25}}
.aip-figure .curve{{fill:none;stroke-width:2;stroke-linejoin:round}}
.aip-figure .c0{{stroke:var(--c0)}} .aip-figure .c1{{stroke:var(--c1)}} .aip-figure .best{{fill:var(--c1)}}
.aip-figure{LIGHT}
@media(prefers-color-scheme:dark){{.aip-figure{DARK}}}
[data-md-color-scheme=default] .aip-figure{LIGHT}
[data-md-color-scheme=slate] .aip-figure{DARK}
</style>"""
"""The colors of the page on the site, and of the system elsewhere."""


@attrs.frozen
class Plot:
    """A plot of up to two curves.

    Attributes:
        title: the name of the value.
        curves: the values of each curve by epoch; None where it was not measured.
        best: the best epoch, which is marked on the last curve; None in other plots.
    """

    title: str
    curves: tuple[tuple[str, list[float | None]], ...]
    best: int | None = None


def pictures() -> dict[str, list[str]]:
    """Return the commands of the block above each picture."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found = {}
    for number, line in enumerate(lines):
        if match := PICTURE.search(line):
            above = [each for each in blocks(PAGE) if each.line <= number and each.language == "console"][-1]
            before = above.notes.get("run before", "").splitlines()
            found[match[1]] = [*map(str.strip, before), *(command.text for command in above.commands())]
    return found


def trained(commands: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Run commands in a folder, and return the events of the last training."""
    for each in ("examples", "docs"):
        (folder / each).symlink_to(ROOT / each)
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "packages"),
    }
    last = max(number for number, text in enumerate(commands) if text.startswith("aip train "))
    for text in filter(None, commands[: last + 1]):
        words = text.partition(" #")[0]
        if found := re.fullmatch(r"pip install (examples/\S+)", words):
            # The build writes into the folder of the package.
            copy = shutil.copytree(ROOT / found[1], folder / "copy")
            words = f"python -m pip install --quiet --no-deps --no-build-isolation --target packages {copy}"
        elif words.startswith("aip train "):
            words += f" --quiet --trainer.random_seed {SEED}"
            words += " --json-log log.jsonl" if text == commands[last] else ""
        print(f"$ {words}", flush=True)
        subprocess.run(["bash", "-c", words], cwd=folder, env=environment, check=True)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def plots(events: Sequence[dict[str, Any]]) -> Iterator[Plot]:
    """Yield the plots of a run: its losses, and another value: the monitored one, or else the first metric."""
    epochs = [event["logs"] for event in events if event["event"] == "epoch"]
    (summary,) = (event for event in events if event["event"] == "summary")
    names = list(epochs[-1])
    monitor = str(summary["monitor"])
    updates = [name for name in names if name.endswith("_loss") and not name.startswith(("val_", "lav_"))]
    pairs = {
        name: [each for each in (name, f"val_{name}") if each in names]
        for name in names
        if not name.startswith(("val_", "lav_")) and name not in updates and not name.endswith(("lr", "learning_rate"))
    }
    losses = updates if len(updates) == 2 else pairs.pop("loss")
    chosen = [("loss", losses)]
    wanted = monitor.removeprefix("val_")
    if wanted == "loss" and pairs:
        wanted = next(iter(pairs))
    if wanted != "loss":
        chosen.append((wanted, pairs.get(wanted) or [monitor]))
    for title, group in chosen:
        yield Plot(
            title.replace("_", " "),
            tuple((name, [each.get(name) for each in epochs]) for name in group),
            summary["best_epoch"] if monitor in group else None,
        )


def drawn(charts: Sequence[Plot], alt: str) -> str:
    """Return the picture."""
    width = WIDTH / len(charts) - LEFT - GAP / 2
    parts = [
        f'<svg class="aip-figure" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{alt}">',
        STYLE,
    ]
    for number, chart in enumerate(charts):
        left = LEFT + number * (width + LEFT + GAP / 2)
        parts += [_legend(chart, left), _plot(chart, left, width)]
    return "\n".join([*parts, "</svg>\n"])


def _legend(chart: Plot, x: float) -> str:
    names = [name for name, _ in chart.curves]
    own = len(names) == 2 and not names[1].startswith("val_")
    entries = []
    for number, name in enumerate(names):
        word = name.removesuffix("_loss") if own else "validation" if name.startswith("val_") else "training"
        kind = _color(number, name)
        entries.append(f'<path class="curve {kind}" d="M{x:.0f},11h18"/><text x="{x + 23:.0f}" y="15">{word}</text>')
        x += 36 + 7 * len(word)
    return "".join(entries)


def _color(number: int, name: str) -> str:
    """Return the class of a curve: values of the validation have the second color."""
    return "c1" if number or name.startswith("val_") else "c0"


def _plot(chart: Plot, left: float, width: float) -> str:
    values = [value for _, curve in chart.curves for value in curve if value is not None]
    logarithmic = min(values) > 0 and max(values) > 30 * min(values)
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    if high == low:
        low, high = low - 0.5, high + 0.5
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    epochs, height = len(chart.curves[0][1]), HEIGHT - TOP - BOTTOM

    def x(epoch: int) -> float:
        return left + width * (epoch - 1) / max(1, epochs - 1)

    def y(value: float) -> float:
        return TOP + height * (high - scale(value)) / (high - low)

    parts = [f'<text x="{left:.0f}" y="{TOP - 9}" class="title">{chart.title}</text>']
    for tick in _ticks(low, high, logarithmic):
        parts.append(
            f'<path class="grid" d="M{left:.0f},{y(tick):.1f}h{width:.0f}"/>'
            f'<text x="{left - 6:.0f}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    for epoch, anchor in ((1, "start"), (epochs, "end")):
        word = f"epoch {epoch}" if epoch == 1 else str(epoch)
        parts.append(f'<text x="{x(epoch):.0f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{word}</text>')
    for number, (name, curve) in enumerate(chart.curves):
        points = [(x(epoch), y(value)) for epoch, value in enumerate(curve, 1) if value is not None]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline class="curve {_color(number, name)}" points="{line}"/>')
    if chart.best is not None:
        value = chart.curves[-1][1][chart.best - 1]
        parts.append(f'<circle class="best" cx="{x(chart.best):.1f}" cy="{y(value or 0):.1f}" r="3.5"/>')
    return "\n".join(parts)


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Return up to six round numbers between two values, which are exponents on a logarithmic axis."""
    if logarithmic:
        whole = range(math.ceil(low), math.floor(high) + 1)
        factors = (1.0,) if len(whole) > 1 else (1.0, 2.0, 5.0)
        return [
            factor * 10.0**each
            for each in range(math.floor(low), math.ceil(high) + 1)
            for factor in factors
            if low <= math.log10(factor * 10.0**each) <= high
        ]
    power = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(power * factor for factor in (1, 2, 5) if (high - low) / (power * factor) <= 5)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def main() -> None:
    """Run the commands of the named pictures, or of all, and draw them."""
    found = pictures()
    for name in sys.argv[1:] or found:
        with tempfile.TemporaryDirectory() as folder:
            charts = list(plots(trained(found[name], Path(folder))))
        alt = f"Curves of {name}: {' and '.join(chart.title for chart in charts)} by epoch"
        target = ROOT / "docs" / "images" / "gallery" / f"{name}.svg"
        target.parent.mkdir(exist_ok=True)
        target.write_text(drawn(charts, alt), encoding="utf-8")


if __name__ == "__main__":
    main()
