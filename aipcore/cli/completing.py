"""What can come next on a command line that trains: scenarios, options of the selection, names of components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from click.shell_completion import CompletionItem

from aipcore.cli.request import CommandOption, make_request, split_arguments
from aipcore.cli.style import Command
from aipcore.errors import AipError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Description, fill, sections

FILES = CompletionItem("", type="file")


class ParametersCommand(Command):
    """A command that takes a scenario and its parameters; knows what can come next."""

    own_options: Sequence[CommandOption] = ()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The words that can stand where `incomplete` stands."""
        return list(completions(list(ctx.params.get("words") or []), incomplete, self.own_options, self.name or ""))


def complete_words(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Where click takes the next word for one of the argument `words`."""
    del parameter
    return ctx.command.shell_complete(ctx, incomplete)


def completions(
    words: list[str], incomplete: str, options: Sequence[CommandOption], command: str
) -> Iterator[CompletionItem]:
    """The words that can come next.

    Args:
        words: what stands after the command's name.
        incomplete: what has been typed of the next word.
        options: those of the command itself.
        command: its name.
    """
    if not words and not incomplete.startswith("-"):
        plugins = get_plugin_manager()
        for name in plugins.names("scenario"):
            if name.startswith(incomplete):
                yield CompletionItem(name, help=plugins.summary("scenario", name))
        yield FILES
        return
    own = {name: option for option in options for name in option.names if name.startswith("--")}
    last = next((word for word in reversed(words) if word.startswith("--")), "")
    if last in own and own[last].metavar and words[-1] == last and not incomplete.startswith("--"):
        yield FILES
        return
    if not incomplete.startswith("-"):
        parameter = next((each for each in _parameters(words, command) if f"--{each.name}" == _dashes(last)), None)
        if parameter is not None:
            yield from _values(parameter, incomplete)
        return
    for name, option in own.items():
        if name.startswith(incomplete):
            yield CompletionItem(name, help=option.help)
    for parameter in _parameters(words, command):
        if f"--{parameter.name}".startswith(_dashes(incomplete)):
            yield CompletionItem(f"--{parameter.name}", help=parameter.help)


def _dashes(option: str) -> str:
    """The option with `_` for `-` but in front."""
    return "--" + option.removeprefix("--").replace("-", "_") if option.startswith("--") else option


def _parameters(words: list[str], command: str) -> list[Description]:
    """The parameters of the selection so far; what is half typed or wrong is left out."""
    rest = list(words)
    while rest:
        try:
            arguments = split_arguments(rest, (), command)
            request = make_request(arguments, command)
            tree = fill(request.root, request.layers, request.plugins)
        except AipError:
            rest = _without_last_option(rest)
            continue
        return [each for section in sections(tree) for each in section.options]
    return []


def _without_last_option(words: list[str]) -> list[str]:
    index = next((i for i in range(len(words) - 1, 0, -1) if words[i].startswith("--")), 0)
    return words[:index]


def _values(parameter: Description, incomplete: str) -> Iterator[CompletionItem]:
    if parameter.choices:
        for name, summary in parameter.choices:
            if name.casefold().startswith(incomplete.casefold()):
                yield CompletionItem(name, help=summary)
    elif parameter.metavar == "BOOL":
        yield from (CompletionItem(word) for word in ("True", "False") if word.startswith(incomplete))
    elif "PATH" in parameter.metavar:
        yield FILES
    elif "|" in parameter.metavar:
        yield from (CompletionItem(word) for word in parameter.metavar.split("|") if word.startswith(incomplete))
