"""An HTML page of recognized lines, in one file without references to others."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import attrs

from aip_plugin_ocr.reports.alignment import align
from aip_plugin_ocr.reports.statistics import RARE, CharacterCount, ReadingStatistics, visible

HEIGHT = 64
"""The largest height of an image on the page, in pixels."""

MOST_CONFUSIONS = 100
"""The most rows of the table of confused characters."""

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --back: #fff; --line: #d5d8dc; --soft: #656b73;
  --wrong: #ffd7d2; --lost: #ffe9b3; --extra: #cfe8ff; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6e9; --back: #17191c; --line: #3a3f45; --soft: #9aa1a9;
  --wrong: #7a2a22; --lost: #6b5310; --extra: #1d4a75; } }
body { color: var(--text); background: var(--back); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { border-bottom: 1px solid var(--line); padding: .2rem 1rem .2rem 0;
  text-align: left; vertical-align: top; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.line { border-top: 1px solid var(--line); padding: .8rem 0; overflow-x: auto; }
.line img { background: #fff; display: block; max-width: 100%; margin: .3rem 0; }
.text { font: 1.05rem/1.7 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.about, .note { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
mark, del, ins { color: var(--text); text-decoration: none; border-radius: 2px; padding: 0 1px; }
mark { background: var(--wrong); } del { background: var(--lost); } ins { background: var(--extra); }
""".strip()


@attrs.frozen(kw_only=True)
class Line:
    """A recognized line.

    Attributes:
        truth: the text of the line, including characters that the model does not have.
        read: the recognized text.
        errors: their edit distance.
        confidence: the confidence of the model from 0 to 1, or None.
        name: the name of the line, such as its path.
        image: returns its image, uint8 [height, width], or None; called only for lines on the page.
    """

    truth: str
    read: str
    errors: int
    confidence: float | None
    name: str
    image: Callable[[], Any]


def make_page(
    title: str,
    worst: Iterable[Line],
    statistics: ReadingStatistics,
    characters: Sequence[CharacterCount] | None = None,
    notes: Iterable[str] = (),
) -> str:
    """Return the page.

    Args:
        title: the title of the page.
        worst: the lines to show, in this order.
        statistics: the statistics of all lines.
        characters: the counts of characters, the rarest first, or None.
        notes: further sentences.
    """
    total = statistics.total
    summary = (
        f"{total.lines:,} lines, {total.characters:,} characters, {total.errors:,} errors. "
        f"Character error rate {total.of_characters:.2%}, line error rate {total.of_lines:.2%}."
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(sentence)}</p>" for sentence in (summary, *notes)),
        "<h2>Lines with the most errors</h2>",
        "<p class=note>Marked are <mark>replaced</mark>, <del>missing</del> and <ins>additional</ins> characters.</p>",
        *map(_line, worst),
        "<h2>Frequent errors</h2>",
        _table(("truth", "read as", "times"), statistics.confusion_rows()[:MOST_CONFUSIONS]),
        "<h2>Error rates by length</h2>",
        _table(
            ("characters", "lines", "character error rate", "line error rate"),
            [
                (name, rate.lines, f"{rate.of_characters:.2%}", f"{rate.of_lines:.2%}")
                for name, rate in statistics.length_rows()
            ],
        ),
    ]
    if characters is not None:
        rare = sum(0 < count.trained < RARE for count in characters)
        new = sum(not count.trained for count in characters)
        parts += [
            "<h2>Characters</h2>",
            f"<p>{len(characters) - new} in the training texts, of which {rare} occur fewer than {RARE} times. {new} "
            "only in the evaluated texts.</p>",
            _table(
                ("character", "code point", "training texts", "evaluated texts"),
                [
                    (visible(each.character), f"U+{ord(each.character):04X}", each.trained, each.evaluated)
                    for each in characters
                ],
            ),
        ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def marked(truth: str, read: str) -> tuple[str, str]:
    """Return both texts as HTML with marked differences."""
    above, below = "", ""
    for one, other in align(truth, read):
        if one == other:
            above, below = above + escape(one), below + escape(other)
        elif one and other:
            above, below = f"{above}<mark>{_shown(one)}</mark>", f"{below}<mark>{_shown(other)}</mark>"
        elif one:
            above += f"<del>{_shown(one)}</del>"
        else:
            below += f"<ins>{_shown(other)}</ins>"
    return above, below


def _shown(character: str) -> str:
    return escape(visible(character))


def _line(line: Line) -> str:
    truth, read = marked(line.truth, line.read)
    about = [f"{line.errors} of {len(line.truth)} characters", line.name]
    if line.confidence is not None:
        about.insert(1, f"confidence {line.confidence:.2f}")
    return (
        f"<div class=line><div class=about>{escape(' · '.join(filter(None, about)))}</div>{_image(line)}"
        f"<div class=text dir=auto>{truth}</div><div class=text dir=auto>{read}</div></div>"
    )


def _image(line: Line) -> str:
    pixels = line.image()
    if pixels is None:
        return "<div class=note>The image cannot be read.</div>"
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.height > HEIGHT:
        width = max(1, round(image.width * HEIGHT / image.height))
        image = image.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr>"]
    for row in rows:
        cells = [
            f"<td>{escape(cell)}</td>" if isinstance(cell, str) else f"<td class=number>{cell:,}</td>" for cell in row
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])
