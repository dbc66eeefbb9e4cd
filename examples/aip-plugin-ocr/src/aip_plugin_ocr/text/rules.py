"""Rules that normalize texts, read from a file."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
import yaml

from aipcore.errors import UsageError

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

LARGEST_FILE = 2**20
"""The most bytes of a file of rules."""

KEYS = ("form", "replace", "white_space")


@attrs.frozen
class TextRules:
    """A normalization of texts: first the Unicode form, then replacements, then white space.

    Attributes:
        form: the Unicode normalization form; None leaves characters as they are.
        replace: texts and their replacements. The longest text that fits is replaced; the result is not searched again.
        white_space: if True, runs of white space become one blank, and blanks at both ends are removed.
    """

    form: Form | None = None
    replace: tuple[tuple[str, str], ...] = ()
    white_space: bool = False

    def __call__(self, text: str) -> str:
        """Return the normalized text."""
        text = self._formed(text)
        if self.replace:
            table = dict(self.replace)
            longest_first = sorted(table, key=len, reverse=True)
            text = re.sub("|".join(map(re.escape, longest_first)), lambda match: table[match.group()], text)
            # A replacement may join or divide characters.
            text = self._formed(text)
        return " ".join(text.split()) if self.white_space else text

    def _formed(self, text: str) -> str:
        return unicodedata.normalize(self.form, text) if self.form else text


def read_rules(path: Path) -> TextRules:
    """Return the rules of a file.

    The file is YAML with up to three entries: `form` (NFC, NFD, NFKC, NFKD or none), `replace` (a mapping from text to
    text) and `white_space` (true or false).

    Raises:
        UsageError: the file cannot be read, or an entry is not valid.
    """
    given = f"--data.text_rules {path}"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UsageError(f"{given} has more than {LARGEST_FILE:,} bytes. Use a file of rules.")
        entries = yaml.safe_load(content.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{given} cannot be read ({error.strerror}). Use a YAML file.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{given} is not YAML in UTF-8 ({_place(error)}). Correct it.") from error
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f"{given} has no rules. Write entries such as `form: NFC`.")
    for key in entries:
        if key not in KEYS:
            raise UsageError(f"{given}: {key!r} is not a rule. The rules are {', '.join(KEYS)}.")
    return TextRules(
        form=_form(given, entries.get("form", "none")),
        replace=_replacements(given, entries.get("replace", {})),
        white_space=_white_space(given, entries.get("white_space", False)),
    )


def _form(given: str, form: Any) -> Form | None:
    if form in get_args(Form):
        return form
    if form != "none":
        raise UsageError(f"{given}: form {form!r} is not allowed. Write {', '.join(get_args(Form))} or none.")
    return None


def _replacements(given: str, replace: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(replace, dict):
        raise UsageError(f"{given}: replace is not a mapping. Write one replacement per line, as OLD: NEW.")
    for old, new in replace.items():
        if not isinstance(old, str) or not isinstance(new, str) or not old:
            raise UsageError(f"{given}: the replacement {old!r}: {new!r} is not text to text. Put both in quotes.")
    return tuple(replace.items())


def _white_space(given: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{given}: white_space {value!r} is not allowed. Write true or false.")
    return value


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else str(error)
