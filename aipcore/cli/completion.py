"""Shell completion: the candidates for the next word of a command line, and the scripts for the shells."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from aipcore.cli.request import HelpOption, make_request, options_of, sort_words, split_arguments
from aipcore.cli.style import Command, NameChoice
from aipcore.errors import AipError
from aipcore.files import expanded
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Description, Layer, fill, one_of, sections
from aipcore.params.tree import Group
from aipcore.scenario.loader import load_scenario
from aipcore.scenario.updates import updates_of
from aipcore.training.params import run_params_class

FILES = CompletionItem("", type="file")
FOLDERS = CompletionItem("", type="dir")


class WordsCommand(Command):
    """A command that accepts its own options and the parameters of a scenario in any order.

    The callback receives all words unchanged, and parses them with `sort_words`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words unchanged."""
        ctx.params["words"] = tuple(args)
        return []

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the completions of `incomplete`."""
        words = list(ctx.params.get("words") or [])
        if not incomplete.startswith("-"):
            if words and words[-1] == "-p":
                return [FILES]
            if not any(word.startswith("-") for word in words):
                return list(self.first_words(words, incomplete))
            for option in options_of(self):
                if words[-1] in option.opts and isinstance(option, HelpOption):
                    return list(self._topics(words, incomplete))
                if words[-1] in option.opts and not option.is_flag:
                    return option.shell_complete(ctx, incomplete)
        return list(self._completions(words, incomplete))

    def _topics(self, words: list[str], incomplete: str) -> Iterator[CompletionItem]:
        """Yield the names of groups and options as topics of `--help`."""
        names = [each.name.split(".") for each in self._parameters(words)]
        groups = dict.fromkeys(".".join(name[:cut]) for name in names for cut in range(1, len(name) + 1))
        yield from (CompletionItem(each) for each in ("all", *groups) if each.startswith(incomplete.replace("-", "_")))

    def _parameters(self, words: list[str]) -> list[Description]:
        try:
            rest = sort_words(words, options_of(self))[1]
        except AipError:
            rest = words
        return _parameters(rest, self.parameters)

    def _completions(self, words: list[str], incomplete: str) -> Iterator[CompletionItem]:
        parameters = self._parameters(words)
        if not incomplete.startswith("-"):
            last = next((word for word in reversed(words) if word.startswith("--")), "")
            for parameter in parameters:
                if _dashes(last).removeprefix("--") in (parameter.name, *parameter.aliases):
                    yield from _values(parameter, incomplete)
            return
        for option in options_of(self):
            for name in option.opts:
                if name.startswith("--") and name.startswith(incomplete):
                    yield CompletionItem(name, help=option.help)
        # Aliases are offered only if no name fits.
        for names in (lambda each: (each.name,)), (lambda each: each.aliases):
            found = [
                CompletionItem(f"--{name}", help=parameter.help)
                for parameter in parameters
                for name in names(parameter)
                if f"--{name}".startswith(_dashes(incomplete))
            ]
            if found:
                yield from found
                return

    def first_words(self, words: list[str], incomplete: str) -> Iterable[CompletionItem]:
        """Return the candidates that may precede the options and follow `words`."""
        raise NotImplementedError

    def parameters(self, words: list[str]) -> list[Description]:
        """Return the parameters that are available after these words.

        Raises:
            AipError: the words are invalid or incomplete.
        """
        raise NotImplementedError


class ParametersCommand(WordsCommand):
    """A command that takes a scenario and its parameters."""

    def first_words(self, words: list[str], incomplete: str) -> Iterable[CompletionItem]:
        """Return the scenarios, and request file completion."""
        if words:
            return
        plugins = get_plugin_manager()
        for name in plugins.names("scenario"):
            if name.startswith(incomplete):
                yield CompletionItem(name, help=plugins.summary("scenario", name))
        yield FILES

    def parameters(self, words: list[str]) -> list[Description]:
        """Return the parameters of the scenario and the chosen components."""
        command = self.name or ""
        request = make_request(split_arguments(words, (), command), command)
        return _described(fill(request.root, request.layers, request.plugins))


class RunCommand(WordsCommand):
    """A command that takes a run folder and parameters of the run."""

    def first_words(self, words: list[str], incomplete: str) -> Iterable[CompletionItem]:
        """Request folder completion."""
        return [] if words else [FOLDERS]

    def parameters(self, words: list[str]) -> list[Description]:
        """Return the parameters of the run if its scenario is an installed plugin: completion runs no other code."""
        arguments = split_arguments(words, (), self.name or "", first="DIR")
        if arguments.scenario is None:
            return []
        # Only completion needs this import.
        from aipcore.training.run_folder import find_run

        folder = find_run(Path(arguments.scenario))
        recorded = folder.about["scenario"]
        plugins = get_plugin_manager()
        if recorded["kind"] != "plugin":
            return []
        scenario = load_scenario(recorded["name"], names=plugins.names("scenario"), find=plugins.find_scenario)
        layers = [Layer.from_file(folder.params_file), Layer.from_arguments(arguments.rest)]
        return _described(fill(run_params_class(scenario.cls.params_class, updates_of(scenario.cls)), layers, plugins))


class ModelFolderCommand(WordsCommand):
    """A command that takes one or more trained models, and the parameters to apply them with.

    Attributes:
        fixed: parameter groups without effect in this command; None for the default ones.
        several: True if the command takes more than one model.
    """

    fixed: Sequence[str] | None = None
    several = False

    def first_words(self, words: list[str], incomplete: str) -> Iterable[CompletionItem]:
        """Request folder completion."""
        return [] if words and not self.several else [FOLDERS]

    def parameters(self, words: list[str]) -> list[Description]:
        """Return the parameters of the first model if its scenario is an installed plugin."""
        from aipcore.cli.model_request import split_model_arguments
        from aipcore.prediction.locate import find_models, recorded_layer, scenario_of
        from aipcore.prediction.params import FIXED, applied_params_class

        arguments = split_model_arguments(words, (), self.name or "", several=self.several)
        plugins = get_plugin_manager()
        model = find_models(expanded(arguments.models[0]))[0]
        scenario, plugins = scenario_of(model, plugins, trust=False)
        root = applied_params_class(scenario.cls.params_class)
        tree = fill(root, [recorded_layer(model), Layer.from_arguments(arguments.rest)], plugins)
        fixed = FIXED if self.fixed is None else self.fixed
        return [each for each in _described(tree) if each.name.split(".")[0] not in fixed]


class ExportFolderCommand(ModelFolderCommand):
    """A command that takes a trained model and the parameters of an export format."""

    root: type

    def parameters(self, words: list[str]) -> list[Description]:
        """Return the format with its options, and the parameters of the model that can be changed."""
        from aipcore.cli.model_request import split_changeable, split_model_arguments
        from aipcore.prediction.params import CHANGEABLE

        arguments = split_model_arguments(words, (), self.name or "")
        layer, overrides = split_changeable(Layer.from_arguments(arguments.rest))
        found = _described(fill(self.root, [layer], get_plugin_manager()))
        given = [word for option in overrides.options for word in (option.written, *option.words)]
        try:
            own = super().parameters([*arguments.models, *given])
        except AipError:
            # The scenario may not be loadable without --trust.
            return found
        return [*found, *(each for each in own if each.name.split(".")[0] in CHANGEABLE)]


class FileCommand(WordsCommand):
    """A command that takes a file and no parameters."""

    def first_words(self, words: list[str], incomplete: str) -> Iterable[CompletionItem]:
        """Request file completion."""
        return [] if words else [FILES]

    def parameters(self, words: list[str]) -> list[Description]:
        """Return no parameters."""
        return []


def words_command(
    name: str, cls: type[WordsCommand], options: Sequence[click.Option]
) -> Callable[[Callable[[tuple[str, ...]], None]], WordsCommand]:
    """Return the decorator for the callback of a command that takes all words after its name.

    Args:
        name: name of the command.
        cls: class of the command, which determines its parameters.
        options: options of the command itself.
    """

    def decorate(callback: Callable[[tuple[str, ...]], None]) -> WordsCommand:
        words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, shell_complete=complete_words)
        summary = inspect.getdoc(callback)
        return cls(name, callback=callback, params=[*options, words], help=summary, add_help_option=False)

    return decorate


def complete_words(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the next word of the argument `words` through its command."""
    del parameter
    return ctx.command.shell_complete(ctx, incomplete)


def _dashes(option: str) -> str:
    """Replace `-` with `_` in an option, except for the leading dashes."""
    return "--" + option.removeprefix("--").replace("-", "_") if option.startswith("--") else option


def _parameters(words: list[str], parameters: Callable[[list[str]], list[Description]]) -> list[Description]:
    """Return the parameters of the selection so far, ignoring an incomplete or invalid end."""
    rest = list(words)
    while rest:
        try:
            return parameters(rest)
        except AipError:
            rest = _without_last_option(rest)
    return []


def _described(tree: Group) -> list[Description]:
    return [each for section in sections(tree) for each in section.options]


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


VARIABLE = "_AIP_COMPLETE"
"""Environment variable with which the scripts request completions."""

WHERE = {
    "bash": 'eval "$(aip completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(aip completion zsh)"   # in ~/.zshrc',
    "fish": "aip completion fish > ~/.config/fish/completions/aip.fish",
}


class _Completion(Command):
    missing = f"Name a shell: aip completion {one_of(WHERE)}."


@click.command("completion", cls=_Completion)
@click.argument("shell", type=NameChoice(WHERE, "There is no completion for"))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    \b
      bash   eval "$(aip completion bash)"   in ~/.bashrc
      zsh    eval "$(aip completion zsh)"    in ~/.zshrc
      fish   aip completion fish > ~/.config/fish/completions/aip.fish
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "aip", VARIABLE).source(), nl=False)


def complete(app: click.Command, instruction: str, arrange: Callable[[list[str]], list[str]]) -> int:
    """Answer a request of a completion script.

    Args:
        app: the command `aip`.
        instruction: value of the variable, such as `bash_complete`.
        arrange: moves the options of `aip` itself to the front of the words.

    Returns:
        the exit code.
    """
    shell, _, what = instruction.partition("_")
    made = get_completion_class(shell)
    if made is None or what not in ("complete", "source"):
        return 1
    answering = made(app, {}, "aip", VARIABLE)
    if what == "source":
        click.echo(answering.source())
        return 0
    words, incomplete = answering.get_completion_args()
    try:
        found = answering.get_completions(arrange(words), incomplete)
    except AipError:
        # A mistake in the words before, which the command itself reports.
        return 0
    click.echo("\n".join(answering.format_completion(item) for item in found))
    return 0
