"""Lines of text printed in a free font (Aileron, CC0, included in Pillow), for a first run and for tests."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import attrs

from aipcore.scenario import Sample


@attrs.frozen
class PrintedLines:
    """A source of samples: line number i depends only on (seed, i).

    The input of a sample is the image (uint8, [height, width], black on white), and its target is the text.

    Attributes:
        count: number of lines.
        seed: the seed of text, size, contrast, slant and noise.
    """

    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Print a line."""
        import numpy as np

        generator = np.random.default_rng((self.seed, index))
        text = self.text(generator)
        return Sample(inputs=_printed(text, generator), targets=text, meta={"text": text})

    def texts(self) -> list[str]:
        """Return all texts, without printing them."""
        import numpy as np

        return [self.text(np.random.default_rng((self.seed, index))) for index in range(self.count)]

    @staticmethod
    def text(generator: Any) -> str:
        """Return one to three words or numbers, some capitalized, sometimes with a period or a comma."""
        parts = []
        for _ in range(generator.integers(1, 4)):
            if generator.random() < 0.2:
                parts.append(str(generator.integers(0, 10 ** int(generator.integers(1, 5)))))
                continue
            word = words()[generator.integers(len(words()))]
            parts.append(word.capitalize() if generator.random() < 0.3 else word)
        return " ".join(parts) + ("", "", "", ".", ",")[generator.integers(5)]


def _printed(text: str, generator: Any) -> Any:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(generator.uniform(18, 23))
    width = int(font.getbbox(text)[2]) + 12
    image = Image.new("L", (width, 36), 255)
    ImageDraw.Draw(image).text((6, 5), text, font=font, fill=int(generator.integers(0, 90)))
    slanted = image.rotate(generator.uniform(-1, 1), fillcolor=255, resample=Image.Resampling.BILINEAR)
    noise = generator.normal(0, 12, (36, width))
    return np.clip(np.asarray(slanted, np.float64) + noise, 0, 255).astype(np.uint8)


@cache
def words() -> list[str]:
    """Return common words, from which lines are made."""
    return (files(__package__) / "words.txt").read_text(encoding="utf-8").split()
