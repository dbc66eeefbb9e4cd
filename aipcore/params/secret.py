"""Secrets and addresses among parameters: recorded without what is secret, and asked for when a record is read.

A record holds `***` in the place of a secret. A parameter that is read with it takes its value from an option, or from
an environment variable that is named for it.
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
"""What the names of environment variables that hold secrets begin with."""

# As SQLAlchemy reads it, whose passwords may hold any character; of HTTP, a user alone may be a token.
_WEB = re.compile(r"(?P<scheme>\b(?:https?|wss?))://(?P<login>[^\s\"'/?#]+)@", re.IGNORECASE)
_OTHER = re.compile(r"(?P<scheme>\b(?!https?:|wss?:)[A-Za-z][\w+.-]*)://(?P<login>[^/\s\"'][^\s\"']*)@", re.IGNORECASE)
_QUERY = re.compile(r"(?P<name>[?&;][^=&;#\s]*=)(?P<value>[^&;#\s\"']+)")
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|cred|auth|sig|api_?key|access_?key|^key$", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return a text with `***` in the place of passwords and tokens in the URLs that it holds."""
    return _QUERY.sub(_query, _OTHER.sub(_login, _WEB.sub(_login, text)))


def _login(match: re.Match[str]) -> str:
    scheme, (user, colon, _) = match["scheme"], match["login"].partition(":")
    if colon:
        return f"{scheme}://{user}:{SECRET}@"
    return f"{scheme}://{SECRET}@" if match.re is _WEB else match[0]


def _query(match: re.Match[str]) -> str:
    name, value = unquote(match["name"][1:-1]), unquote(match["value"])
    # A value may be the address of a database itself, such as odbc_connect=DRIVER=...;PWD=...
    if _SECRET_NAME.search(name) or re.search(r"(pass|pwd|secret|token)\w*=", value, re.IGNORECASE):
        return f"{match['name']}{SECRET}"
    return match[0]


def host_alone(url: str) -> str:
    """Return a web address with `***` in the place of its path and query, where some services put a token."""
    found = re.match(r"(https?://)(?:[^/?#]*@)?([^/?#]*)/?(.*)", url, re.IGNORECASE | re.DOTALL)
    return url if found is None or not found[3] else f"{found[1]}{found[2]}/{SECRET}"


def recorded(spec: FieldSpec, plain: Any) -> Any:
    """Return what a record holds for a plain value of a leaf."""
    if plain is None or plain == "" or plain is REQUIRED:
        return plain
    if spec.secret:
        return spec.secret(plain) if callable(spec.secret) else SECRET
    return _each(redacted, plain) if spec.contacts else plain


def is_withheld(spec: FieldSpec, plain: Any) -> bool:
    """Return whether a plain value is what `recorded` left of another."""
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
    """Return the name of the environment variable of a leaf: `AIP_SECRET_` and the option in capitals."""
    return PREFIX + re.sub(r"\W", "_", shown(leaf.path, tree.shorts)).upper()


def from_environment(tree: Group) -> None:
    """Give secrets that no layer gave, or that a record withheld, the values that the environment has for them.

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
                raise ParamsError(f"The environment variable {name} is not allowed: it must be {limit}.")
            leaf.value, leaf.origin, leaf.withheld = value, f"environment variable {name}", False


def refuse_withheld(tree: Group) -> None:
    """Ask for the secrets that a record withheld.

    Raises:
        ParamsError: there is one.
    """
    missing = [leaf for leaf in leaves(tree) if leaf.withheld]
    if missing:
        names = " and ".join(f"--{shown(leaf.path, tree.shorts)} ({leaf.value})" for leaf in missing)
        options = ", ".join(variable(leaf, tree) for leaf in missing)
        are = "holds a secret, which is" if len(missing) == 1 else "hold secrets, which are"
        raise ParamsError(f"{names} {are} not recorded. Give the option, or set {options}.")


@attrs.frozen
class Contact:
    """An address that a parameter names.

    Attributes:
        option: the parameter as it is shown.
        address: without secrets.
    """

    option: str
    address: str


def contacts(tree: Group, origins: Sequence[str]) -> list[Contact]:
    """Return the addresses that a program would contact because a layer of `origins` names them."""
    found = []
    chosen = [each.path for each in components(tree) if each.origin in origins]
    for leaf in leaves(tree):
        # The default of a component that a layer chooses is that layer's, too.
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
    """Refuse addresses that a folder names and nobody trusts.

    Raises:
        UsageError: there is one; it names them all.
    """
    if found:
        listed = ", ".join(f"{each.address} (--{each.option})" for each in found)
        raise UsageError(
            f"{where} names {'an address' if len(found) == 1 else 'addresses'} that would be contacted: {listed}. Look "
            f"at {'it' if len(found) == 1 else 'them'}, and add --trust, or give the "
            f"{'option' if len(found) == 1 else 'options'} yourself."
        )
