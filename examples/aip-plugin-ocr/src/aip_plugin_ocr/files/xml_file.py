"""Reading of XML from untrusted sources, with the bytes of each element, so that copies differ only where intended."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import attrs

from aipcore.errors import DataError

LARGEST_FILE = 64 * 2**20
"""The most bytes of an XML file."""

MOST_LINES = 100_000
"""The most lines of a file."""

MOST_ELEMENTS = 100_000
"""The most elements within one line."""

_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_DECLARED = re.compile(rb"""\A(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z][\w.-]{0,30})["']""")
_ENCODINGS = re.compile(r"utf-8|ascii|iso8859-\d+|cp125\d")
_TAG = re.compile(rb"""<(?:[^"'>]+|"[^"]*"|'[^']*')*>""")
_SPACE_BEFORE = re.compile(rb"\s*\Z")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@attrs.define(eq=False)
class Element:
    """An element of an XML file.

    Attributes:
        tag: the name with its prefix.
        attributes: the values of the attributes.
        row: the line of the file, counted from 1.
        start: index of the first byte.
        head: index of the first byte after the start tag.
        end: index of the first byte after the element.
        parts: the characters of the element in parts, without those of its children.
        children: the child elements, if the whole tree is read.
    """

    tag: str
    attributes: Mapping[str, str]
    row: int
    start: int
    head: int = 0
    end: int = 0
    parts: list[str] = attrs.field(factory=list)
    children: list[Element] = attrs.field(factory=list)

    @property
    def name(self) -> str:
        """The name without its prefix."""
        return self.tag.rpartition(":")[2]

    @property
    def text(self) -> str:
        """The characters of the element, without those of its children."""
        return "".join(self.parts)

    def tag_of(self, name: str) -> str:
        """Return a name with the prefix of this element."""
        prefix, colon, _ = self.tag.rpartition(":")
        return f"{prefix}{colon}{name}"

    def named(self, *names: str) -> list[Element]:
        """Return the children of these names, in order."""
        return [child for child in self.children if child.name in names]


@attrs.frozen(eq=False)
class XmlFile:
    """The elements of interest of an XML file.

    Attributes:
        path: the file.
        data: its content as UTF-8, to which the indices of elements refer.
        encoding: its encoding.
        root: the root element without children.
        trees: the elements that were read with their children.
        heads: the elements that were read without children.
    """

    path: Path
    data: bytes
    encoding: str
    root: Element
    trees: list[Element]
    heads: list[Element]

    def space_before(self, element: Element) -> str:
        """Return the white space before an element."""
        match = _SPACE_BEFORE.search(self.data, max(0, element.start - 200), element.start)
        return match.group().decode() if match else ""

    def spliced(self, changes: Iterable[tuple[int, int, str]]) -> bytes:
        """Return the file with other content in place of some ranges of bytes. All other bytes are unchanged.

        Args:
            changes: first byte, byte after the last, and the new content. Ranges do not overlap.
        """
        parts, done = [], 0
        for start, end, text in sorted(changes):
            parts += [self.data[done:start], text.encode()]
            done = end
        parts.append(self.data[done:])
        content = b"".join(parts)
        return content if self.encoding == "utf-8" else content.decode().encode(self.encoding, "xmlcharrefreplace")


def read_xml(path: Path, *, trees: Collection[str], heads: Collection[str]) -> XmlFile:
    """Read elements of an XML file. Entities are not expanded, and nothing else is read.

    Args:
        path: the file.
        trees: names of the elements to read with all their children.
        heads: names of the elements to read without children.

    Raises:
        DataError: the file cannot be read, is too large, has a document type or is not well-formed.
    """
    data, encoding = _as_utf8(path)
    reader = _Reader(path, data, trees, heads)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(
            f"{path}, line {error.lineno}: this is not well-formed XML ({expat.ErrorString(error.code)}). Fix the file."
        ) from error
    assert reader.root is not None
    return XmlFile(path, data, encoding, reader.root, reader.found, reader.found_heads)


def text_of_xml(text: str) -> str:
    """Return a text as content of an element. Characters that XML does not allow become U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})


def attributes_of_xml(attributes: Mapping[str, str]) -> str:
    """Return attributes as they are written in a start tag, each after a blank."""
    return "".join(f" {name}={quoteattr(_NOT_XML.sub(chr(0xFFFD), value))}" for name, value in attributes.items())


class _Reader:
    """Collects elements while expat parses."""

    def __init__(self, path: Path, data: bytes, trees: Collection[str], heads: Collection[str]) -> None:
        self.path, self.data = path, data
        self.trees, self.heads = trees, heads
        self.root: Element | None = None
        self.found: list[Element] = []
        self.found_heads: list[Element] = []
        self.open: list[Element] = []
        """The elements that are being read: one head, or the path from a tree's root."""
        self.elements = 0
        # The declared encoding no longer applies.
        self.parser = expat.ParserCreate("UTF-8")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self.refuse_document_type
        self.parser.StartElementHandler = self.begin
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.add_text

    def refuse_document_type(self, *_: Any) -> NoReturn:
        raise DataError(
            f"{self.path}, line {self.parser.CurrentLineNumber}: the file has a document type (DOCTYPE), which can "
            "declare entities. Remove it."
        )

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if self.root is None:
            self.root = self.made(tag, attributes)
        in_tree = bool(self.open) and self.open[0].name in self.trees
        if in_tree or name in self.trees:
            element = self.made(tag, attributes)
            if in_tree:
                self.open[-1].children.append(element)
                self.elements += 1
            else:
                # A head that contains lines is complete: its attributes are known.
                self.open.clear()
                self.found.append(element)
                self.elements = 0
            self.open.append(element)
            if self.elements > MOST_ELEMENTS or len(self.found) > MOST_LINES:
                raise DataError(
                    f"{self.path}, line {element.row}: the file has more than {MOST_LINES:,} lines, or one with more "
                    f"than {MOST_ELEMENTS:,} elements. Split it."
                )
        elif name in self.heads:
            element = self.made(tag, attributes)
            self.open[:] = [element]
            self.found_heads.append(element)

    def made(self, tag: str, attributes: dict[str, str]) -> Element:
        start = self.parser.CurrentByteIndex
        match = _TAG.match(self.data, start)
        assert match is not None
        return Element(tag, attributes, self.parser.CurrentLineNumber, start, match.end())

    def end(self, tag: str) -> None:
        if not self.open or self.open[-1].tag != tag:
            return
        element = self.open.pop()
        if self.data[element.head - 2 : element.head] == b"/>":
            element.end = element.head
        else:
            element.end = self.data.index(b">", self.parser.CurrentByteIndex) + 1

    def add_text(self, text: str) -> None:
        if self.open:
            self.open[-1].parts.append(text)


def _as_utf8(path: Path) -> tuple[bytes, str]:
    """Return the content of a file as UTF-8, and its encoding."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Check the path.") from error
    if len(data) > LARGEST_FILE:
        raise DataError(f"{path} has more than {LARGEST_FILE:,} bytes. Split it.")
    encoding = _MARKS.get(data[:2])
    if encoding is None:
        declared = _DECLARED.match(data)
        given = declared.group(1).decode() if declared else "utf-8"
        try:
            encoding = codecs.lookup(given).name
        except LookupError:
            encoding = given
        if not _ENCODINGS.fullmatch(encoding):
            raise DataError(f"{path} is encoded in {given}, which is not supported. Save it as UTF-8.")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {row}: this is not {encoding} text. Save the file as UTF-8.") from error
    return (data if encoding == "utf-8" else text.encode()), encoding
