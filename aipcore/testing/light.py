"""Subprocess that looks up plugins like `aip --help`, and reports the imports that this causes.

It reads one JSON request from standard input and writes one line of JSON for each plugin. It stops after the first
heavy import, since later ones could not be attributed to a plugin.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import PluginManager


def main() -> None:
    """Answer the request."""
    request = json.load(sys.stdin)
    # The output of plugins must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    heavy: Sequence[str] = request["heavy"]
    manager = _manager(request["switches"])
    for kind, name in request["plugins"]:
        answer = _look_up(manager, kind, name, heavy)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if answer["heavy"] or answer.get("help_heavy"):
            break


def _manager(switches: dict[str, Any]) -> PluginManager:
    only = switches["only"]
    return PluginManager(
        Switches(
            disabled=tuple(switches["disabled"]),
            third_party=switches["third_party"],
            only=None if only is None else tuple(only),
            strict=switches["strict"],
        )
    )


def _look_up(manager: PluginManager, kind: str, name: str, heavy: Sequence[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"kind": kind, "name": name, "error": ""}
    try:
        if kind == "command":
            command: Any = manager.load_build(kind, name)
            answer["heavy"] = _loaded(heavy)
            if isinstance(command, click.Command):
                context = command.make_context(name, [], resilient_parsing=True)
                answer["help"] = command.get_help(context)
            answer["help_heavy"] = _loaded(heavy)
        elif kind != "writer":
            manager.params_class(kind, name)
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    answer.setdefault("heavy", _loaded(heavy))
    return answer


def _loaded(heavy: Sequence[str]) -> list[str]:
    return [name for name in heavy if name in sys.modules]


if __name__ == "__main__":
    main()
