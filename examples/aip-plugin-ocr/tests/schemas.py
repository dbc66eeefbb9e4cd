"""Checks of pages: the rules of the schemas that concern lines, and the schemas themselves if they are there.

`AIP_OCR_SCHEMAS` names a folder with `page-VERSION.xsd` (PRImA-Research-Lab/PAGE-XML on GitHub) and `alto-4-4.xsd`
(altoxml/schema). They are not part of this package, because they have other licenses.
"""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

from lxml import etree

LINE_OF_PAGE = re.compile(
    "(AlternativeImage )*Coords (Baseline )?(Word )*(TextEquiv )*(TextStyle )?(UserDefined )?(Labels )*"
)
LINE_OF_ALTO = re.compile("(Shape )?(String (SP )?)+(HYP )?")
XLINK = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/1999/xlink">
<xs:attributeGroup name="simpleLink"/></xs:schema>"""


def check_page(content: bytes) -> None:
    """Check the lines of a PageXML file."""
    root = etree.fromstring(content)
    version = root.nsmap[root.prefix].rpartition("/")[2]
    for line in root.iter("{*}TextLine"):
        assert LINE_OF_PAGE.fullmatch(_children(line)), _children(line)
        texts = line.findall("{*}TextEquiv")
        allowed = {"index", "conf", "dataType", "dataTypeDetails", "comments"}
        if version < "2016":
            assert len(texts) <= 1
            allowed = {"conf"} if version > "2013" else set()
        indices = [each.get("index") for each in texts]
        assert len(set(indices)) == len(indices)
        for each in texts:
            assert set(each.attrib) <= allowed
            assert 0 <= float(each.get("conf", 0)) <= 1
            assert _children(each) in (
                ["PlainText Unicode "] if version < "2013" else ["Unicode ", "PlainText Unicode "]
            )
    _validate(content, f"page-{version}.xsd")


def check_alto(content: bytes) -> None:
    """Check the lines of an ALTO file."""
    root = etree.fromstring(content)
    for line in root.iter("{*}TextLine"):
        assert LINE_OF_ALTO.fullmatch(_children(line)), _children(line)
        for each in line.findall("{*}String"):
            assert "CONTENT" in each.attrib
            assert 0 <= float(each.get("WC", 0)) <= 1
    ids = [each.get("ID") for each in root.iter() if each.get("ID")]
    assert len(set(ids)) == len(ids)
    _validate(content, "alto-4-4.xsd")


def _children(element: Any) -> str:
    return "".join(f"{etree.QName(child).localname} " for child in element)


def _validate(content: bytes, name: str) -> None:
    folder = os.environ.get("AIP_OCR_SCHEMAS")
    if not folder:
        return

    class Local(etree.Resolver):
        def resolve(self, url: str, public_id: Any, context: Any) -> Any:
            return self.resolve_string(XLINK, context) if "xlink" in url else None

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Local())
    schema = etree.XMLSchema(etree.parse(str(Path(folder) / name), parser))
    schema.assertValid(etree.parse(BytesIO(content)))
