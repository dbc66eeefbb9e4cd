"""Check every `aip` command line of the pages: the command and its options must exist for the named scenario.

Nothing is computed and TensorFlow is not imported, so all pages take a second. Python blocks are compiled.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from page_blocks import ROOT, Block, Command, blocks, inline_commands, pages

from aipcore.cli.completion import WordsCommand
from aipcore.cli.main import COMMANDS, app, global_options_first
from aipcore.cli.model_request import split_changeable, split_model_arguments
from aipcore.cli.request import make_request, options_of, sort_words, split_arguments
from aipcore.errors import AipError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, resolve
from aipcore.prediction.params import applied_params_class
from aipcore.scenario.loader import load_scenario
from aipcore.training.params import run_params_class

LANGUAGES = {"console", "python", "toml", "yaml", "json", "text", "bash", "html"}


class Checker:
    """The state of the check of a page, from top to bottom.

    Attributes:
        made: names of plugins that the page creates or installs; their options are not checked.
        runs: from the output folder of a run to its scenario; other folders are considered runs of the tutorial.
    """

    def __init__(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        self.made = set(re.findall(r"plugins new \w+ ([\w-]+)", text)) | set(re.findall(r'name="([\w-]+)"', text))
        for init in (ROOT / "examples").glob("*/src/*/__init__.py"):
            self.made |= set(re.findall(r'name="([\w-]+)"', init.read_text(encoding="utf-8")))
        self.made = {name.casefold() for name in self.made}
        self.runs: dict[str, str] = {}

    def check(self, command: Command) -> None:
        """Raise an error of aip or click if the command line is not valid."""
        words = command.words
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words.pop(0)
        if words[:1] == ["sudo"] or words[:1] == ["srun"]:
            words.pop(0)
        if not words or words[0] != "aip":
            return
        self._check(global_options_first(words[1:]))

    def _check(self, words: list[str]) -> None:
        while words and words[0].startswith("-"):
            words = words[2:] if words[0] == "-p" else words[1:]
        if not words:
            return
        name, rest = words[0], words[1:]
        if any(word.casefold() in self.made for word in words):
            return
        command = app.get_command(_context(), name)
        if command is None:
            raise AipError(f"There is no command {name}.")
        if name in ("train", "params", "benchmark-input-pipeline"):
            self._check_training(name, rest)
        elif name in ("resume", "lav", "predict", "export", "evaluate"):
            self._check_applying(name, rest)
        elif name == "launch":
            with command.make_context(name, list(rest)) as ctx:
                self._check(list(ctx.params["words"]))
        elif isinstance(command, WordsCommand):
            # The command of a plugin that parses its own words.
            sort_words(rest, options_of(command))
        else:
            _check_click(command, rest)

    def _check_applying(self, name: str, words: list[str]) -> None:
        module = import_module(COMMANDS[name][0])
        options = options_of(module.command)
        if name == "resume":
            arguments = split_arguments(words, options, name, first="DIR")
            self._resolve(run_params_class, arguments.scenario or "", arguments.rest)
        elif name == "evaluate":
            sort_words(words, options)
        else:
            models = split_model_arguments(words, options, name, several=name in ("lav", "predict"))
            if name == "export":
                layer, changed = split_changeable(Layer.from_arguments(models.rest))
                resolve(module.ExportCommandParams, [layer], get_plugin_manager())
                models.rest[:] = [word for option in changed.options for word in (option.written, *option.words)]
            if models.models:
                self._resolve(applied_params_class, models.models[0], models.rest)

    def _check_training(self, name: str, words: list[str]) -> None:
        arguments = split_arguments(words, options_of(import_module(COMMANDS[name][0]).command), name)
        if arguments.scenario is None:
            return
        options = {key: value for key, value in arguments.options.items() if key != "--params"}
        request = make_request(type(arguments)(scenario=arguments.scenario, options=options, rest=arguments.rest), name)
        if "--help" not in options:
            output = request.resolved().value.trainer.output_dir
            if output is not None:
                self.runs[str(output)] = arguments.scenario

    def _resolve(self, root: Any, folder: str, words: list[str]) -> None:
        """Resolve parameters for the scenario of a run folder."""
        known = [run for run in self.runs if folder == run or folder.startswith(f"{run}/")]
        numbered = re.match(r"runs/(\w+?)-\d+", folder)
        name = self.runs[known[0]] if known else numbered[1] if numbered else "tutorial"
        plugins = get_plugin_manager()
        names = list(plugins.names("scenario"))
        name = name if name in names or known else "tutorial"
        loaded = load_scenario(name, names=names, find=plugins.find_scenario)
        cls, plugins = loaded.cls, loaded.plugins(plugins)
        layers = [Layer.from_mapping("scenario", cls.defaults)] if root is run_params_class else []
        resolve(root(cls.params_class), [*layers, Layer.from_arguments(words)], plugins)


@cache
def _context() -> click.Context:
    """Return a context of `aip`. Cached, so that plugins are discovered once."""
    return app.make_context("aip", ["doctor"])


def _check_click(command: click.Command, words: list[str]) -> None:
    if isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            return
        inner = command.commands.get(words[0])
        if inner is None:
            raise AipError(f"aip {command.name} has no command {words[0]}.")
        command, words = inner, words[1:]
    if {"--help", "-h"} & set(words):
        return
    with command.make_context(command.name, list(words)):
        pass


def check_page(page: Path) -> list[str]:
    """Return the problems of the blocks of a page."""
    wrong = []
    checker = Checker(page)
    for block in blocks(page):
        place = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language not in LANGUAGES:
            wrong.append(
                f"{place}: the block has the language {block.language or 'none'}; use {', '.join(sorted(LANGUAGES))}"
            )
        elif block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        if "excerpt of" in block.notes:
            wrong += _strange_lines(block, place)
        elif block.language == "python":
            try:
                compile(block.text, place, "exec")
            except SyntaxError as error:
                wrong.append(f"{place}: {error}")
        if block.language == "console":
            wrong += _wrong(checker, block.commands(), place)
    return wrong + _wrong(checker, inline_commands(page), str(page.relative_to(ROOT)))


def _wrong(checker: Checker, commands: Any, place: str) -> list[str]:
    wrong = []
    for command in commands:
        fails = command.shown is not None and command.shown.lstrip().startswith("error:")
        try:
            checker.check(command)
        except (AipError, click.ClickException, ValueError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            if not fails:
                wrong.append(f"{place}: {command.text}: {text}")
    return wrong


def _strange_lines(block: Block, place: str) -> list[str]:
    """Return a problem if the lines of an excerpt are not in the file in this order."""
    rest = (ROOT / block.notes["excerpt of"]).read_text(encoding="utf-8")
    for line in block.text.splitlines():
        if line.strip() not in ("", "..."):
            _, found, rest = rest.partition(line + "\n")
            if not found:
                return [f"{place}: {line!r} is not in {block.notes['excerpt of']} at this place"]
    return []


def main() -> int:
    """Check the named pages, or all."""
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    wrong = []
    for page in chosen:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            Path("examples").symlink_to(ROOT / "examples")
            wrong += check_page(page)
            os.chdir(ROOT)
    for each in wrong:
        print(each, file=sys.stderr)
    heavy = {"tensorflow", "keras"} & set(sys.modules)
    assert not heavy, f"{heavy} were imported"
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
