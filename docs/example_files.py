"""Write files like those of the pages into the working folder: `scans/`, `photos/`, `lines/`, arrays, tables."""

from __future__ import annotations

import sys
from pathlib import Path

from aip_plugins.scenarios.tabular_classification.scenario import INCLUDED
from aip_plugins.scenarios.tutorial.datasets import load
from PIL import Image


def scans() -> None:
    """Ten digits as images."""
    Path("scans").mkdir()
    (_, _), (images, _) = load("digits")
    for number, image in enumerate(images[:10]):
        Image.fromarray((image * 255).astype("uint8")).save(f"scans/{number}.png")


def photos() -> None:
    """Images in a folder for each class, to learn from and to validate with."""
    for part, (images, labels) in zip(("train", "val"), load("digits"), strict=True):
        for number, (image, label) in enumerate(zip(images[:60], labels[:60], strict=True)):
            if label < 3:
                path = Path("photos", part, ("cats", "dogs", "birds")[label], f"{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((image * 255).astype("uint8")).resize((64, 64)).convert("RGB").save(path)


def lines() -> None:
    """Images of lines with their texts beside them, and list files."""
    from PIL import ImageDraw, ImageFont

    Path("lines").mkdir()
    for part, words in {"train": ("one", "two", "three", "four", "note", "tune"), "val": ("ten", "net")}.items():
        for number, word in enumerate(words):
            image = Image.new("L", (100, 32), 255)
            ImageDraw.Draw(image).text((4, 2), word, font=ImageFont.load_default(24), fill=0)
            image.save(f"lines/{part}-{number}.png")
            Path(f"lines/{part}-{number}.gt.txt").write_text(word, encoding="utf-8")
        Path(f"lines/{part}.lst").write_text("".join(f"{part}-{i}.png\n" for i in range(len(words))), encoding="utf-8")


def points() -> None:
    """Arrays of points and their classes."""
    import numpy as np

    x = np.random.default_rng(1).normal(size=(1000, 2)).astype("float32")
    np.savez("points.npz", x=x, y=(np.hypot(*x.T) > 1).astype("int32"))


def penguins() -> None:
    """A table of penguins with their species, and one of other rows without it."""
    header, *rows = INCLUDED.read_text(encoding="utf-8").splitlines(keepends=True)
    new = {3, 100, 200, 300}
    Path("penguins.csv").write_text(
        header + "".join(row for number, row in enumerate(rows) if number not in new), encoding="utf-8"
    )
    without = [row.partition(",")[2] for row in (header, *(rows[number] for number in sorted(new)))]
    Path("new.csv").write_text("".join(without), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        {"scans": scans, "photos": photos, "lines": lines, "points": points, "penguins": penguins}[name]()
