"""Secrets and addresses among parameters: redaction in records, and their restoration when a record is read.

A record contains `***` in place of a secret. When the record is read, the value comes from an option, or from an
environment variable named after the option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import attrs

from aipcore.errors import ParamsError, UsageError
from aipcore.params.declare import REQUIRED, SECRET, FieldSpec
from aipcore.params.tree import DEFAULT, Group, Leaf, components, leaves, shown

PREFIX = "AIP_SECRET_"
"""Prefix of the environment variables that hold secrets."""

# As parsed by SQLAlchemy, whose passwords may contain any character. In HTTP, a user name alone may be a token.
_WEB = re.compile(r"(?P<scheme>\b(?:https?|wss?))://(?P<login>[^\s\"'/?#]+)@", re.IGNORECASE)
_OTHER = re.compile(r"(?P<scheme>\b(?!https?:|wss?:)[A-Za-z][\w+.-]*)://(?P<login>[^/\s\"'][^\s\"']*)@", re.IGNORECASE)
_QUERY = re.compile(r"(?P<name>[?&;][^=&;#\s]*=)(?P<value>[^&;#\s\"']+)")
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|cred|auth|sig|api_?key|access_?key|^key$", re.IGNORECASE)


def redacted(text: str) -> str:
    """Replace passwords and tokens in the URLs of a text with `***`."""
    return _QUERY.sub(_query, _OTHER.sub(_login, _WEB.sub(_login, text)))


def _login(match: re.Match[str]) -> str:
    scheme, (user, colon, _) = match["scheme"], match["login"].partition(":")
    if colon:
        return f"{scheme}://{user}:{SECRET}@"
    return f"{scheme}://{SECRET}@" if match.re is _WEB else match[0]


def _query(match: re.Match[str]) -> str:
    name, value = unquote(match["name"][1:-1]), unquote(match["value"])
    # The value may itself be a database address, such as odbc_connect=DRIVER=...;PWD=...
    if _SECRET_NAME.search(name) or re.search(r"(pass|pwd|secret|token)\w*=", value, re.IGNORECASE):
        return f"{match['name']}{SECRET}"
    return match[0]


def host_alone(url: str) -> str:
    """Replace the path and query of a web address, where some services put a token, with `***`."""
    found = re.match(r"(https?://)(?:[^/?#]*@)?([^/?#]*)/?(.*)", url, re.IGNORECASE | re.DOTALL)
    return url if found is None or not found[3] else f"{found[1]}{found[2]}/{SECRET}"


def recorded(spec: FieldSpec, plain: Any) -> Any:
    """Return the recorded form of a leaf's plain value."""
    if plain is None or plain == "" or plain is REQUIRED:
        return plain
    if spec.secret:
        return spec.secret(plain) if callable(spec.secret) else SECRET
    return _each(redacted, plain) if spec.contacts else plain


def is_withheld(spec: FieldSpec, plain: Any) -> bool:
    """Return True if a plain value is the redacted form of another value."""
    if not (spec.secret or spec.contacts):
        return False
    found: list[bool] = []
    _each(lambda text: found.append(SECRET in text), plain)
    return any(found)


def _each(function: Any, plain: Any) -> Any:
    if isinstance(plain, str):
        return function(plain)
    if isinstance(plain, list | tuple):
        return [_each(function, item) for item in plain]
    if isinstance(plain, Mapping):
        return {key: _each(function, item) for key, item in plain.items()}
    return plain


def variable(leaf: Leaf, tree: Group) -> str:
    """Return the environment variable of a leaf: `AIP_SECRET_` and the option in capitals."""
    return PREFIX + re.sub(r"\W", "_", shown(leaf.path, tree.shorts)).upper()


def from_environment(tree: Group) -> None:
    """Set secrets that are missing or redacted from their environment variables.

    Raises:
        ParamsError: a value is not allowed.
    """
    for leaf in leaves(tree):
        if not leaf.withheld and not (leaf.spec.secret and leaf.origin == "default"):
            continue
        name = variable(leaf, tree)
        if text := os.environ.get(name):
            try:
                value = leaf.type.from_words([text] if leaf.type.form == "one" else text.split())
                allowed = leaf.spec.check is None or leaf.spec.check.accepts(value)
            except ValueError:
                allowed = False
            if not allowed:
                limit = leaf.spec.check.allowed if leaf.spec.check else leaf.type.words
                raise ParamsError(f"The value of the environment variable {name} is not allowed. It must be {limit}.")
            leaf.value, leaf.origin, leaf.withheld = value, f"environment variable {name}", False


def to_environment(tree: Group) -> dict[str, str]:
    """Return the environment variables with the secrets that no file records, for `from_environment`."""
    hidden = [
        leaf for leaf in leaves(tree) if not leaf.missing and is_withheld(leaf.spec, recorded(leaf.spec, leaf.value))
    ]
    return {variable(leaf, tree): _text(leaf.value) for leaf in hidden}


def refuse_withheld(tree: Group) -> None:
    """Check that no secret of a record is still missing.

    Raises:
        ParamsError: a secret is missing.
    """
    missing = [leaf for leaf in leaves(tree) if leaf.withheld]
    if missing:
        names = " and ".join(f"--{shown(leaf.path, tree.shorts)} ({leaf.value})" for leaf in missing)
        options = ", ".join(variable(leaf, tree) for leaf in missing)
        are = "contains a secret, which is" if len(missing) == 1 else "contain secrets, which are"
        raise ParamsError(f"{names} {are} not recorded. Pass the option, or set {options}.")


@attrs.frozen
class Contact:
    """An address in a parameter.

    Attributes:
        option: displayed name of the parameter.
        address: address without secrets.
    """

    option: str
    address: str


def contacts(tree: Group, origins: Sequence[str]) -> list[Contact]:
    """Return the addresses that a program would contact because of layers with these `origins`."""
    found = []
    chosen = [each.path for each in components(tree) if each.origin in origins]
    for leaf in leaves(tree):
        # A default of a component counts as named by the layer that chose the component.
        named_by = leaf.origin in origins or (leaf.origin == DEFAULT and any(leaf.path[: len(p)] == p for p in chosen))
        if not (named_by and leaf.spec.contacts) or leaf.missing:
            continue
        named = leaf.spec.contacts
        text = named(leaf.value) if callable(named) else "" if leaf.value is None else _text(leaf.value)
        if text:
            found.append(Contact(shown(leaf.path, tree.shorts), redacted(text)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        value = list(value.values())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def refuse_contacts(found: Sequence[Contact], where: object) -> None:
    """Refuse untrusted addresses from a folder.

    Raises:
        UsageError: there are such addresses. The message lists all of them.
    """
    if found:
        listed = ", ".join(f"{each.address} (--{each.option})" for each in found)
        raise UsageError(
            f"{where} names {'an address' if len(found) == 1 else 'addresses'} that would be contacted: {listed}. "
            f"Check {'it' if len(found) == 1 else 'them'}, then add --trust, or pass the "
            f"{'option' if len(found) == 1 else 'options'} yourself."
        )
