"""Pages for tests: images of printed lines, and PageXML or ALTO files that describe them."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAGE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/{version}"
ALTO = "http://www.loc.gov/standards/alto/ns-v4#"
HEIGHT, WIDTH = 40, 300


def print_page(path: Path, texts: list[str]) -> None:
    """Write an image with a line of each text, `HEIGHT` pixels each."""
    image = Image.new("L", (WIDTH, HEIGHT * len(texts)), 230)
    for number, text in enumerate(texts):
        ImageDraw.Draw(image).text((6, number * HEIGHT + 8), text, font=ImageFont.load_default(20), fill=20)
    image.save(path)


def polygon(number: int) -> list[tuple[int, int]]:
    """Return the outline of a printed line, a hexagon."""
    top, bottom, middle = number * HEIGHT + 2, number * HEIGHT + HEIGHT - 3, number * HEIGHT + HEIGHT // 2
    return [(4, top), (WIDTH - 5, top), (WIDTH - 2, middle), (WIDTH - 5, bottom), (4, bottom), (1, middle)]


def points(number: int) -> str:
    """Return the outline in the form of a file."""
    return " ".join(f"{x},{y}" for x, y in polygon(number))


def page_xml(path: Path, texts: list[str | None], *, image: str | None = None, version: str = "2019-07-15") -> str:
    """Write and return a PageXML file of printed lines. A line without a text has no TextEquiv."""
    lines = []
    for number, text in enumerate(texts):
        given = (
            f'\n        <TextEquiv index="0"><Unicode>{escape(text)}</Unicode></TextEquiv>' if text is not None else ""
        )
        given = given if version > "2016" else given.replace(' index="0"', "")
        lines.append(
            f'      <TextLine id="l{number}">\n        <Coords points="{points(number)}"/>{given}\n'
            '        <TextStyle fontSize="11.0"/>\n      </TextLine>\n'
        )
    content = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<!-- made by hand -->\n'
        f'<PcGts xmlns="{PAGE.format(version=version)}">\n'
        "  <Metadata><Creator>aip</Creator><Created>2020-01-01T00:00:00</Created>"
        "<LastChange>2020-01-01T00:00:00</LastChange></Metadata>\n"
        f'  <Page imageFilename={quoteattr(image or path.stem + ".png")} imageWidth="{WIDTH}" '
        f'imageHeight="{HEIGHT * len(texts)}">\n'
        f'    <TextRegion id="r1"><Coords points="0,0 {WIDTH},0 {WIDTH},{HEIGHT * len(texts)}"/>\n'
        f"{''.join(lines)}    </TextRegion>\n  </Page>\n</PcGts>\n"
    )
    path.write_text(content, encoding="utf-8")
    return content


def alto(path: Path, texts: list[str], *, unit: str = "pixel", scale: float = 1) -> str:
    """Write and return an ALTO file of printed lines, with a string for each word."""
    lines = []
    for number, text in enumerate(texts):
        words = [
            f'<String ID={quoteattr(f"s{number}-{place}")} HPOS="{place * 40}" VPOS="{number * HEIGHT}" WIDTH="38" '
            f'HEIGHT="30" CONTENT={quoteattr(word)} WC="0.5" CC="1 2"/>'
            for place, word in enumerate(text.split())
        ]
        lines.append(
            f'<TextLine ID="l{number}" HPOS="0" VPOS="{number * HEIGHT * scale}" WIDTH="{WIDTH * scale}" '
            f'HEIGHT="{HEIGHT * scale}">\n  {"<SP/>".join(words)}\n</TextLine>\n'
        )
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<alto xmlns="{ALTO}">\n<Description>'
        f"<MeasurementUnit>{unit}</MeasurementUnit><sourceImageInformation><fileName>{path.stem}.png</fileName>"
        f'</sourceImageInformation></Description>\n<Layout><Page ID="p" PHYSICAL_IMG_NR="1" WIDTH="{WIDTH * scale}" '
        f'HEIGHT="{HEIGHT * len(texts) * scale}"><PrintSpace><TextBlock ID="b">\n'
        f"{''.join(lines)}</TextBlock></PrintSpace></Page></Layout>\n</alto>\n"
    )
    path.write_text(content, encoding="utf-8")
    return content


def line_images(count: int) -> list[np.ndarray]:
    """Return images of different widths whose values tell them apart."""
    return [np.full((20, 30 + number), 10 * number, np.uint8) for number in range(count)]
