"""PageXML and ALTO: lines in, predictions out."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from aip_plugin_ocr.files.lines import open_lines
from aip_plugin_ocr.files.writer import pages_writer
from lxml import etree
from pages import HEIGHT, WIDTH, alto, page_xml, points, print_page
from PIL import Image
from schemas import check_alto, check_page

from aipcore.errors import DataError, UsageError

TEXTS = ["one & two", "three <4>", "five"]


def opened(*paths, targets=True, text_index=0, images=None):
    return open_lines(paths, targets=targets, text_index=text_index, images=images)


def written(tmp_path, source, texts, index=1, confidence=0.75):
    """Write predictions of all lines of a source, and return the files of the new folder by name."""
    predictions = [
        SimpleNamespace(meta=source[number].meta, outputs={"text": text, "confidence": confidence})
        for number, text in enumerate(texts)
    ]
    pages_writer(index)(tmp_path / "read.pages", iter(predictions), {})
    folder = tmp_path / "read.pages"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def page(tmp_path):
    print_page(tmp_path / "a.png", TEXTS)
    page_xml(tmp_path / "a.xml", TEXTS)
    return tmp_path / "a.xml"


@pytest.mark.parametrize("write", [page_xml, alto])
def test_lines_of_a_page(tmp_path, write):
    """Each line of a file is a sample with its text, in the order of the file."""
    print_page(tmp_path / "a.png", TEXTS)
    write(tmp_path / "a.xml", TEXTS)
    source = opened(tmp_path / "a.xml")
    assert source.texts() == TEXTS == [source[number].targets for number in range(3)]
    assert source[1].meta == {"path": str(tmp_path / "a.xml"), "line": "l1", "number": 1}
    with Image.open(tmp_path / "a.png") as image:
        line = np.asarray(image)[HEIGHT : 2 * HEIGHT]
    cut = source[1].inputs
    assert (cut[10:-10, 10:-10] == (line[12:-12, 11:-11] if write is page_xml else line[10:-10, 10:-10])).all()


def test_outside_of_the_polygon_is_paper(tmp_path):
    """Pixels inside the polygon keep their values. Others get the median of those inside."""
    values = np.add.outer(np.arange(40), 3 * np.arange(60)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    text = page_xml(tmp_path / "a.xml", ["x"]).replace(points(0), "10,5 50,5 10,25")
    (tmp_path / "a.xml").write_text(text.replace(f'"{WIDTH}"', '"60"'), encoding="utf-8")
    cut = opened(tmp_path / "a.xml")[0].inputs
    y, x = np.mgrid[:21, :41]
    inside = x / 40 + y / 20
    expected = values[5:26, 10:51]
    assert cut.shape == (21, 41)
    # Pixels on the edge may belong to either side.
    assert (cut[inside < 0.95] == expected[inside < 0.95]).all()
    paper = cut[inside > 1.05]
    assert len(set(paper.tolist())) == 1
    assert abs(int(paper[0]) - np.median(expected[inside <= 1])) <= 1


def test_chosen_text(tmp_path):
    """The text with the chosen index is learned. Lines without it are left out and counted."""
    print_page(tmp_path / "a.png", TEXTS)
    content = page_xml(tmp_path / "a.xml", ["a", "b", None])
    second = '<TextEquiv index="1"><Unicode>B</Unicode></TextEquiv>'
    content = content.replace("<Unicode>b</Unicode></TextEquiv>", "<Unicode>b</Unicode></TextEquiv>" + second)
    # A text without an index does not come before one with the index.
    given = '<TextEquiv index="0"><Unicode>a<'
    content = content.replace(given, f"<TextEquiv><Unicode>A</Unicode></TextEquiv>{given}")
    # The text of a word is not the text of the line.
    word = '<Word id="w"><Coords points="0,0 1,0 1,1"/><TextEquiv index="1"><Unicode>W</Unicode></TextEquiv></Word>'
    content = content.replace(f'<Coords points="{points(2)}"/>', f'<Coords points="{points(2)}"/>{word}')
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    first, other = opened(tmp_path / "a.xml"), opened(tmp_path / "a.xml", text_index=1)
    assert (first.texts(), other.texts()) == (["a", "b"], ["B"])
    assert (first.without_text, other.without_text) == (1, 2)
    assert len(opened(tmp_path / "a.xml", targets=False)) == 3
    with pytest.raises(DataError, match="None of the 3 lines has a text with index 7"):
        opened(tmp_path / "a.xml", text_index=7)


def test_alternatives_of_alto(tmp_path):
    """Alternatives of words are texts of higher indices. Words without one have their content."""
    print_page(tmp_path / "a.png", ["x"])
    content = alto(tmp_path / "a.xml", ["un deux"])
    content = content.replace('CONTENT="un" WC="0.5" CC="1 2"/>', 'CONTENT="un"><ALTERNATIVE>vn</ALTERNATIVE></String>')
    content = content.replace("\n</TextLine>", '<HYP CONTENT="-"/>\n</TextLine>')
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    assert opened(tmp_path / "a.xml").texts() == ["un deux-"]
    assert opened(tmp_path / "a.xml", text_index=1).texts() == ["vn deux-"]


def test_alto_in_millimeters(tmp_path):
    """Places in tenths of millimeters are scaled by the size of the image."""
    print_page(tmp_path / "a.png", TEXTS)
    print_page(tmp_path / "b.png", TEXTS)
    alto(tmp_path / "a.xml", TEXTS)
    alto(tmp_path / "b.xml", TEXTS, unit="mm10", scale=2.5)
    one, other = opened(tmp_path / "a.xml")[1].inputs, opened(tmp_path / "b.xml")[1].inputs
    assert other.shape[0] in range(HEIGHT, HEIGHT + 2)
    assert (one == other[:HEIGHT, : one.shape[1]]).all()


def test_predictions_become_a_copy(page, tmp_path):
    """The copy has the predicted texts, and all other bytes are those of the original, which does not change."""
    original = page.read_bytes()
    files = written(tmp_path, opened(page, targets=False), ["1 & <2>", "", "\x07\U0001d538é"])
    assert list(files) == ["a.pred.xml"]
    copy = files["a.pred.xml"]
    check_page(copy)
    added = re.compile(rb'\n        <TextEquiv index="1" conf="0.7500"><Unicode>([^<]*)</Unicode></TextEquiv>')
    assert [text.decode() for text in added.findall(copy)] == ["1 &amp; &lt;2&gt;", "", "\ufffd\U0001d538é"]
    assert added.sub(b"", copy) == original == page.read_bytes()


def test_copy_is_read_again(page, tmp_path):
    """Lines, predictions and lines again: the texts of a copy are the predictions, and its lines the same."""
    source = opened(page, targets=False)
    (tmp_path / "again").mkdir()
    copy = tmp_path / "again" / "a.xml"
    copy.write_bytes(written(tmp_path, source, ["x", "y", "z"])["a.pred.xml"])
    again = opened(copy, text_index=1, images=tmp_path)
    assert again.texts() == ["x", "y", "z"]
    assert all((source[number].inputs == again[number].inputs).all() for number in range(3))
    # A text with the same index is replaced.
    copy.write_bytes(written(tmp_path / "again", again, ["X", "Y", "Z"])["a.pred.xml"])
    assert opened(copy, text_index=1, images=tmp_path).texts() == ["X", "Y", "Z"]
    assert opened(copy, text_index=0, images=tmp_path).texts() == TEXTS
    assert copy.read_bytes().count(b"<TextEquiv") == 6


@pytest.mark.parametrize(
    "version", ["2010-03-19", "2013-07-15", "2016-07-15", "2017-07-15", "2018-07-15", "2019-07-15"]
)
def test_versions_of_page_xml(tmp_path, version):
    """A copy is valid in the version of its file. Versions before 2016 have one text per line."""
    print_page(tmp_path / "a.png", TEXTS)
    content = page_xml(tmp_path / "a.xml", ["old", None, "old"], version=version)
    if version < "2013":
        content = re.sub(
            r'<Coords points="([^"]*)"/>',
            lambda match: (
                "<Coords>"
                + "".join('<Point x="{}" y="{}"/>'.format(*point.split(",")) for point in match[1].split())
                + "</Coords>"
            ),
            content,
        )
        content = re.sub(r"<TextStyle[^>]*>", "", content)
        content = content.replace("<Unicode>", "<PlainText>old</PlainText><Unicode>")
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    check_page(content.encode())
    copy = written(tmp_path, opened(tmp_path / "a.xml", targets=False), ["x", "y", "z"])["a.pred.xml"]
    check_page(copy)
    assert copy.count(b">old<") == (0 if version < "2016" else 2)
    assert re.findall(rb"<Unicode>(.)</Unicode>", copy) == [b"x", b"y", b"z"]


def test_predictions_in_alto(tmp_path):
    """Words keep their places if their number is the same. Otherwise the line has new strings. Other bytes stay."""
    print_page(tmp_path / "a.png", TEXTS)
    content = alto(tmp_path / "a.xml", ["one two", "a b c", "x"])
    content = content.replace('CONTENT="b"', 'SUBS_TYPE="HypPart1" SUBS_CONTENT="bc" CONTENT="b"')
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    copy = written(tmp_path, opened(tmp_path / "a.xml", targets=False), ["1 & 2", "A  B C", ""])["a.pred.xml"].decode()
    check_alto(copy.encode())
    assert '<String CONTENT="1" WC="0.7500"/><SP/><String CONTENT="&amp;" WC="0.7500"/><SP/>' in copy
    assert f'<String ID="s1-1" HPOS="40" VPOS="{HEIGHT}" WIDTH="38" HEIGHT="30" CONTENT="B" WC="0.7500"/>' in copy
    assert 'CONTENT="" WC="0.7500"/>' in copy
    assert re.sub("<(String|SP)[^>]*>", "", copy) == re.sub("<(String|SP)[^>]*>", "", content)


def test_hyphens_and_empty_lines_of_alto(tmp_path):
    """A hyphen stays if the prediction ends with it. Lines without strings get some."""
    print_page(tmp_path / "a.png", ["", "", "", ""])
    content = alto(tmp_path / "a.xml", ["one", "two", "", ""])
    content = content.replace('CC="1 2"/>\n</TextLine>', 'CC="1 2"/><HYP CONTENT="-"/>\n</TextLine>')
    shape = f'<Shape><Polygon POINTS="{points(3)}"/></Shape>'
    content = re.sub(r'(<TextLine ID="l2"[^>]*)>\s*</TextLine>', r"\1/>", content)
    content = re.sub(r'(<TextLine ID="l3"[^>]*>)\s*</TextLine>', rf"\1{shape}</TextLine>", content)
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    source = opened(tmp_path / "a.xml", targets=False)
    copy = written(tmp_path, source, ["on-", "twe", "a b", "c"], confidence=None)["a.pred.xml"]
    check_alto(copy)
    assert copy.count(b"<HYP") == 1
    (tmp_path / "a.xml").write_bytes(copy)
    assert opened(tmp_path / "a.xml").texts() == ["on-", "twe", "a b", "c"]
    assert etree.fromstring(copy)[-1][0][0][0][3][0].tag.endswith("Shape")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings(tmp_path, encoding):
    """A copy has the encoding of its file. Characters that it lacks become references."""
    print_page(tmp_path / "a.png", ["x"])
    content = page_xml(tmp_path / "a.xml", ["é"]).replace("UTF-8", "UTF-16" if "16" in encoding else encoding[:10])
    content = content.replace("utf-8-sig", "utf-8").replace("\n", "\r\n")
    (tmp_path / "a.xml").write_bytes(content.encode(encoding))
    source = opened(tmp_path / "a.xml")
    assert source.texts() == ["é"]
    copy = written(tmp_path, source, ["ſü"])["a.pred.xml"]
    texts = etree.fromstring(copy).findall(".//{*}Unicode")
    assert [each.text for each in texts] == ["é", "ſü"]
    assert len(copy.decode(encoding).replace("&#383;", "\u017f")) == len(content) + len(
        '\r\n        <TextEquiv index="1" conf="0.7500"><Unicode>ſü</Unicode></TextEquiv>'
    )


def test_prefixes(tmp_path):
    """Elements with a prefix of the namespace are read, and new ones have it too."""
    print_page(tmp_path / "a.png", ["x"])
    content = re.sub(r"<(/?)(?=[A-Z])", r"<\1pc:", page_xml(tmp_path / "a.xml", ["a"])).replace("xmlns=", "xmlns:pc=")
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    copy = written(tmp_path, opened(tmp_path / "a.xml"), ["b"])["a.pred.xml"]
    check_page(copy)
    assert b"<pc:Unicode>b</pc:Unicode></pc:TextEquiv>" in copy


@pytest.mark.parametrize(
    "place", ["named.png", "../named.png", "images/named.png", "/other/place/named.png", "C:\\x\\named.png"]
)
def test_places_of_images(tmp_path, place):
    """The image is found by its name beside the file, below its folder or the folder above it, never elsewhere."""
    folder = tmp_path / "work" / "pages"
    folder.mkdir(parents=True)
    where = {"../named.png": folder.parent, "images/named.png": folder.parent / "images"}.get(place, folder)
    where.mkdir(exist_ok=True)
    print_page(where / "named.png", ["x"])
    page_xml(folder / "a.xml", ["x"], image=place)
    assert opened(folder / "a.xml").lines[0].image == where / "named.png"


def test_image_elsewhere_is_not_read(tmp_path):
    """A name that leads out of the two folders is not followed, and the error says where the image is searched."""
    folder = tmp_path / "work" / "pages"
    folder.mkdir(parents=True)
    print_page(tmp_path / "secret.png", ["x"])
    page_xml(folder / "a.xml", ["x"], image="../../secret.png")
    with pytest.raises(
        DataError, match=r"The image of .*a\.xml \(\.\./\.\./secret\.png\) is not in .*--data.page_images"
    ):
        opened(folder / "a.xml")
    assert opened(folder / "a.xml", images=tmp_path).lines[0].image == tmp_path / "secret.png"


BROKEN = {
    "document type": (("<PcGts", "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><PcGts"), "line 3: .*DOCTYPE"),
    "not XML": (("</Page>", ""), "line 14: .*mismatched tag"),
    "root": (("PcGts", "mets"), "its root element is mets"),
    "no coords": (("Coords", "Cords"), "line 7: the TextLine has no Coords"),
    "two points": ((points(0), "1,2 3,4"), "line 8: the points '1,2 3,4' are not a polygon"),
    "words": ((points(0), "NaN,2 3,4 5,6"), "line 8: the points"),
    "pages": (("</Page>", "</Page><Page/>"), "has 2 Page elements"),
    "index": (('index="0"', 'index="first"'), "line 9: index='first' is not an integer"),
    "width": ((f'imageWidth="{WIDTH}"', 'imageWidth="wide"'), "line 5: imageWidth='wide' is not a number"),
    "encoding": (("UTF-8", "utf-7"), "utf-7, which is not supported"),
    "other image": ((f'imageWidth="{WIDTH}"', 'imageWidth="600"'), "an image of 600 x 40 pixels, but .* has 300 x 40"),
    "outside": ((points(0), "900,900 950,900 950,950"), "line 7: the polygon of the line is outside of the image"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_pages(tmp_path, fault):
    """Files that cannot be used are errors with the file and the line."""
    (old, new), message = BROKEN[fault]
    print_page(tmp_path / "a.png", ["x"])
    content = page_xml(tmp_path / "a.xml", ["x"])
    assert old in content
    (tmp_path / "a.xml").write_text(content.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "a.xml")[0]


def test_large_files(tmp_path, monkeypatch):
    """Files above the limits are refused before they take memory."""
    print_page(tmp_path / "a.png", ["x"])
    page_xml(tmp_path / "a.xml", ["x"])
    with monkeypatch.context() as patch:
        patch.setattr("aip_plugin_ocr.files.xml_file.LARGEST_FILE", 100)
        with pytest.raises(DataError, match="more than 100 bytes"):
            opened(tmp_path / "a.xml")
    monkeypatch.setattr("aip_plugin_ocr.files.xml_file.MOST_ELEMENTS", 2)
    with pytest.raises(DataError, match="more than 2 elements"):
        opened(tmp_path / "a.xml")


def test_kinds_are_mixed(page, tmp_path):
    """A list may have files of all kinds. Images of pages are not lines."""
    Image.new("L", (50, 20)).save(tmp_path / "line.nrm.png")
    (tmp_path / "line.gt.txt").write_text("a line\n", encoding="utf-8")
    source = opened(tmp_path / "a.png", tmp_path / "line.nrm.png", page)
    assert source.texts() == ["a line", *TEXTS]
    assert source.page_images == 1
    files = written(tmp_path, source, ["read", "1", "2", "3"])
    assert set(files) == {"line.pred.txt", "a.pred.xml"}
    assert files["line.pred.txt"] == b"read\n"


def test_folders_of_copies(tmp_path):
    """Files of one name in several folders have copies in folders of the same names."""
    for name in ("x", "y"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for kind in ("bin", "nrm"):
            Image.new("L", (9, 9)).save(tmp_path / "in" / name / f"1.{kind}.png")
    images = sorted((tmp_path / "in").rglob("*.png"))
    files = written(tmp_path, opened(*images, targets=False), list("abcd"))
    assert files == {
        "x/1.pred.txt": b"a\n",
        "x/1.nrm.pred.txt": b"b\n",
        "y/1.pred.txt": b"c\n",
        "y/1.nrm.pred.txt": b"d\n",
    }


def test_failed_copies_leave_nothing(page, tmp_path):
    """If a prediction fails, there is no folder. Lines that are not from files cannot be copied."""

    def fails():
        yield SimpleNamespace(meta=opened(page)[0].meta, outputs={"text": "x"})
        raise DataError("broken")

    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="broken"):
        pages_writer(1)(tmp_path / "x.pages", fails(), {})
    with pytest.raises(UsageError, match="are not from files"):
        pages_writer(1)(tmp_path / "x.pages", iter([SimpleNamespace(meta=None, outputs={"text": "x"})]), {})
    assert sorted(tmp_path.iterdir()) == before
    Image.new("L", (9, 9)).save(tmp_path / "1.png")
    source = opened(page, tmp_path / "1.png", tmp_path / ".." / tmp_path.name / "a.xml", targets=False)
    with pytest.raises(UsageError, match=r"a\.xml is listed twice"):
        written(tmp_path, source, list("abcdefg"))
    assert not list(tmp_path.glob("*.pages"))
