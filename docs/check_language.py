"""Check the language of pages, docstrings, comments and messages.

    python docs/check_language.py [FILE ...]

Prints each finding as FILE:LINE and exits with status 1 if there are any. Without files: all tracked ones. Blocks of
code and output in pages are left out, and so are the strings of tests.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".md", ".in")

FIRST_WORD = re.compile(r"(As|How|That|The ones?|Those|What|Where|Whether|Which|Who)\b")
"""A docstring begins with a noun phrase or a verb instead."""

PHRASES = {
    "anew": "again",
    "at once": "immediately, or: together",
    "behind the": "after the",
    "by heart": "overfit a few samples",
    "by itself": "automatically, or nothing",
    "goes? on": "continue",
    "as it is": "unchanged",
    "going on": "continuing",
    "hears? of": "receive",
    r"(?<!there\s)(?<!If\s)(is|are) no(?! (longer|more|less|fewer|other|matter|one|such)\b)": "is not a",
    "once more": "again",
    "says? so": "show it",
    "so many": "the given number",
    "learnt": "trained, or: learned",
    "mend(s|ed|ing)?": "fix",
    "numbers of samples": "sample indices",
    "of (his|her)( own)?": "name the person or the thing",
    "what there (is|are)": "the available",
    "who ?ever": "name the reader or the process",
}
"""Phrases that read as translated, with the words to use instead."""

OWN = "docs/check_language.py"
"""This file, which names the phrases."""

ALLOWED: set[tuple[str, str]] = set()
"""Findings that are right as they are: the file and the matched text."""


def pieces(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield the prose of a file: the line it begins in, the text, and whether it is a docstring."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from _paragraphs(text)
        return
    if path.suffix == ".in" and '"""' not in text:
        return
    try:
        tree = ast.parse(text)
    except SyntaxError:  # A template with placeholders.
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = list(ast.walk(tree))
    docstrings = {each.body[0].value for each in nodes if isinstance(each, documented) and ast.get_docstring(each)}
    for node in nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if node in docstrings or "tests" not in path.parts:
            yield node.lineno, node.value, node in docstrings
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def _paragraphs(text: str) -> Iterator[tuple[int, str, bool]]:
    inside, first, lines = False, 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside and line.strip():
            if not lines:
                first = number
            lines.append(line)
            continue
        if lines:
            yield first, "\n".join(lines), False
            lines = []


def findings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that break a rule, with the reason."""
    name = path.relative_to(ROOT).as_posix()
    for line, text, is_docstring in pieces(path):
        match = FIRST_WORD.match(text.lstrip()) if is_docstring else None
        if match and (name, match[0]) not in ALLOWED:
            yield line, f"a docstring begins with {match[0]!r}: begin with a noun or a verb"
        for phrase, instead in PHRASES.items():
            for match in re.finditer(rf"\b(?:{phrase})\b".replace(" ", r"\s+"), text, re.IGNORECASE):
                if (name, match[0]) not in ALLOWED:
                    at = line + text.count("\n", 0, match.start())
                    yield at, f"{' '.join(match[0].split())!r}: write {instead!r}"


def tracked() -> list[Path]:
    """Return the files to check: all that git tracks, except this one."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name.endswith(SUFFIXES) and name != OWN]


def main() -> None:
    """Check the files of the command line."""
    paths = [Path(word).resolve() for word in sys.argv[1:]] or tracked()
    found = [f"{path.relative_to(ROOT)}:{line}: {reason}" for path in paths for line, reason in findings(path)]
    sys.stdout.write("".join(f"{each}\n" for each in found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
