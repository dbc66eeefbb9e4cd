"""Hooks for mkdocs: patterns in the navigation, pages for files of the repository, figures in the page's colors."""

from __future__ import annotations

import html
import json
import os
import re
from itertools import cycle
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = get_plugin_logger(__name__)

ROOT = Path(__file__).parents[1]

LINK = re.compile(r"(?<=\]\()[\w.][\w./-]*(?=[)#])")
"""Target of a relative link."""

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block of commands."""

CELL = re.compile(r"^\|.*\|$", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
"""Rows of tables, and code in them. GitHub requires an escaped `|` there, and MkDocs would show the escape."""

FIGURE = re.compile(r'<img alt="[^"]*" src="([^"]+\.svg)"[^>]*>')
"""A picture that is a drawing. One with the class `aip-figure` takes its colors from the page."""

TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
OPTION = re.compile(r"<code>(?=[^<\n]{1,34}</code>)([^<\n]*-[^<\n]*)</code>")
"""Short code with a hyphen, after which a browser would break the line."""

TITLE = re.compile(r"^# (.+)$", re.MULTILINE)

BOOSTS = {"decisions/": 0.01, "files/": 0.4, "benchmarks": 0.4, "coming-from-": 0.5, "howto/": 1.5, "parameters": 1.5}
"""Weights of pages in the search, by the beginnings of their names."""

LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".md": "markdown"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace the patterns of the navigation with the matching pages, and name the version in the footer."""
    docs = Path(config.docs_dir)
    source = (ROOT / "aipcore" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert version is not None
    if "MIKE_DOCS_VERSION" in os.environ:
        # One of several versions, which mike builds. The page then loads their list.
        config.extra["version"] = {"provider": "mike"}
    config.copyright = f"aip {version[1]}, licensed under Apache-2.0"
    named = set(_names(config.nav))
    config.nav = _expanded(config.nav, docs, named)
    return config


def _names(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [name for value in values for name in _names(value)]


def _expanded(entry: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(entry, dict):
        return {title: _expanded(value, docs, named) for title, value in entry.items()}
    if isinstance(entry, str):
        return entry
    expanded: list[Any] = []
    for each in entry:
        if isinstance(each, str) and "*" in each:
            pages = sorted(path.relative_to(docs).as_posix() for path in docs.glob(each))
            expanded += [page for page in pages if page not in named]
        else:
            expanded.append(_expanded(each, docs, named))
    return expanded


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each linked file or folder outside docs/, and for those that its own text links."""
    pages = list(files.documentation_pages())
    for file in pages:
        for target in LINK.findall(file.content_string):
            path = _outside(file.src_uri, target) or "docs/"
            if not path.startswith("docs/") and files.get_file_from_path(_page(path)) is None:
                pages.append(File.generated(config, _page(path), content=_content(path)))
                files.append(pages[-1])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Redirect links that leave docs/ to the pages from `on_files`, and list the decisions on their page."""
    del config
    uri = page.file.src_uri
    if uri.startswith("files/") and "README" not in uri and "/docs/" not in uri:
        page.meta["search"] = {"exclude": True}
    elif boosts := [boost for start, boost in BOOSTS.items() if uri.startswith(start)]:
        page.meta["search"] = {"boost": boosts[0]}
    if uri == "decisions/index.md":
        found = [file for file in files.documentation_pages() if re.match(r"decisions/\d", file.src_uri)]
        titles = sorted((PurePosixPath(file.src_uri).name, TITLE.search(file.content_string)) for file in found)
        markdown += "\n" + "\n".join(f"* [{title[1] if title else name}]({name})" for name, title in titles)

    def led(match: re.Match[str]) -> str:
        path = _outside(uri, match[0])
        if path is None:
            return match[0]
        return "../" * uri.count("/") + (path.removeprefix("docs/") if path.startswith("docs/") else _page(path))

    markdown = BLOCK.sub(_with_its_lexer, LINK.sub(led, markdown))
    return CELL.sub(lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown)


def on_page_content(output: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Label the cells of tables, for narrow screens, and keep options in one piece."""
    del page, config, files
    return TABLE.sub(_labelled, OPTION.sub(r'<code class="option">\1</code>', output))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Insert figures, and warn about external resources of a page. `--strict` turns the warning into an error."""
    folder = Path(config.docs_dir) / PurePosixPath(page.file.src_uri).parent
    output = FIGURE.sub(lambda image: _figure(image, folder), output)
    for fetched in re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*", output):
        log.warning("%s loads an external resource: %s", page.file.src_uri, fetched)
    return output


def _labelled(table: re.Match[str]) -> str:
    """Return a table whose cells name their columns. A wide table of numbers is scrolled instead."""
    headings = [re.sub(r"<[^>]+>", "", each) for each in re.findall(r"<th\b[^>]*>(.*?)</th>", table[0], re.DOTALL)]
    if not 2 <= len(headings) <= 5:
        return table[0]
    labels = cycle(["", *headings[1:]])
    cells = re.sub(r"<td\b", lambda _: f'<td data-label="{html.escape(next(labels), quote=True)}"', table[0])
    return cells.replace("<table>", "<table data-stacked>", 1)


def _figure(image: re.Match[str], folder: Path) -> str:
    """Return a drawing as part of the page, so that its text and lines have the colors of the page."""
    path = folder / image[1]
    # mkdocs warns about a missing picture.
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text if 'class="aip-figure"' in text else image[0]


def _with_its_lexer(match: re.Match[str]) -> str:
    """Return a block of commands without prompts as a script. Otherwise it would be highlighted as output."""
    return match[0] if match[1].startswith("$ ") else match[0].replace("```console", "```bash", 1)


def _outside(uri: str, target: str) -> str | None:
    """Return the path in the repository of a link target; None if it is a page beside the linking one in docs/."""
    generated = uri.startswith("files/")
    source = PurePosixPath(uri.removeprefix("files/").removesuffix(".md") if generated else f"docs/{uri}")
    path = normpath((source if (ROOT / source).is_dir() else source.parent) / target)
    return path if (ROOT / path).exists() and (generated or not path.startswith("docs/")) else None


def _page(path: str) -> str:
    return f"files/{path}.md"


def _content(path: str) -> str:
    """Return the page of a file, or of all files of a folder. Its README is the beginning of the page."""
    place = ROOT / path
    if place.suffix == ".md":
        return place.read_text(encoding="utf-8")
    if place.is_file():
        return f"# `{path}`\n\n{_fence(place)}"
    readme = place / "README.md"
    parts = [readme.read_text(encoding="utf-8") if readme.exists() else f"# `{path}`\n"]
    for each in sorted(place.rglob("*")):
        hidden = any(part.startswith((".", "__pycache__")) or part.endswith("egg-info") for part in each.parts)
        if each.is_file() and not hidden and each.suffix in LANGUAGES and each != readme:
            parts.append(f"## `{each.relative_to(place).as_posix()}`\n\n{_fence(each)}")
    return "\n".join(parts)


def _fence(place: Path) -> str:
    text = place.read_text(encoding="utf-8").rstrip("\n")
    if place.suffix == ".ipynb":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(f"````python\n{source}\n````" if kind == "code" else source for kind, source in cells)
    return f"````{LANGUAGES.get(place.suffix, 'text')}\n{text}\n````\n"
