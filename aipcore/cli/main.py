"""The command `aip`: a table of subcommands, each imported only when it runs, and the output of errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

import aipcore
from aipcore.cli.style import Group, color_wanted, report
from aipcore.errors import (
    TRACEBACK,
    AipError,
    AuthorError,
    PluginError,
    Terminated,
    UsageError,
    author_error,
    sentence,
    with_traceback_hint,
)
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import configure_plugins, get_plugin_manager
from aipcore.hooks.plugin_files import named_file, project_files
from aipcore.params.names import nearest, normalize, one_of
from aipcore.streams import OutputError, guarded_output, require_output

COMMANDS: Final = {
    "train": ("aipcore.cli.train", "Train a scenario."),
    "resume": ("aipcore.cli.resume", "Resume a run from its newest checkpoint."),
    "launch": ("aipcore.cli.launch", "Train with several processes, on this machine or on a cluster."),
    "benchmark-input-pipeline": (
        "aipcore.cli.benchmark_input_pipeline",
        "Measure the throughput of the training data and find its bottleneck.",
    ),
    "lav": ("aipcore.cli.lav", "Evaluate one or more trained models on validation or other data."),
    "predict": ("aipcore.cli.predict", "Predict with one or more trained models."),
    "evaluate": ("aipcore.cli.evaluate", "Score stored outputs of a model."),
    "export": ("aipcore.cli.export", "Write a trained model in another format."),
    "runs": ("aipcore.cli.runs", "List, show, compare and delete runs."),
    "params": ("aipcore.cli.params", "Print the parameters of a command line and the origin of each value."),
    "plugins": ("aipcore.cli.plugins", "List, describe, check and create plugins."),
    "doctor": ("aipcore.cli.doctor", "Show versions, devices, plugins and known problems."),
    "completion": ("aipcore.cli.completion", "Print the completion script for bash, zsh or fish."),
}
"""From each command to its module, which defines it as `command`, and its summary."""

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

TERMINATED: Final = 143
"""Exit code after SIGTERM: 128 + SIGTERM."""

CLOSED_PIPE: Final = 141
"""Exit code after a write to a closed pipe: 128 + SIGPIPE."""


class AipGroup(Group):
    """The subcommands of `aip`: built-in ones from the table, those of plugins from their records."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options of `aip`, and keep the words for the plugin switches."""
        ctx.meta["aipcore.words"] = list(args)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option `--help`. It is processed after the plugin switches, since it lists plugin commands."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.is_eager = False
        return option

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, built-in ones first."""
        _switch_plugins(ctx)
        return [*COMMANDS, *get_plugin_manager().names("command")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Return None for an unknown name."""
        _switch_plugins(ctx)
        for name, (module, _) in COMMANDS.items():
            if normalize(name) == normalize(cmd_name):
                command: click.Command = import_module(module).command
                return command
        plugins = get_plugin_manager()
        if not plugins.has("command", cmd_name):
            return None
        built: Any = plugins.load_build("command", cmd_name)
        if not isinstance(built, click.Command):
            title = plugins.entry("command", cmd_name).title
            raise PluginError(f"{title} is broken: its build names a {type(built).__name__}, not a click.Command.")
        return built

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command. The error for an unknown name suggests similar ones."""
        command = self.get_command(ctx, args[0])
        if command is None:
            names = self.list_commands(ctx)
            near = nearest(args[0], names)
            if args[0].endswith(".py") or get_plugin_manager().has("scenario", args[0]):
                near = [f"aip train {args[0]}"]
            hint = f"did you mean {one_of(near)}?" if near else f"available: {', '.join(names)}."
            raise UsageError(f"There is no command {args[0]!r}; {hint}")
        return args[0], command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        _switch_plugins(ctx)
        rows = [(name, summary) for name, (_, summary) in COMMANDS.items()]
        rows += [(record.name, record.summary) for record in get_plugin_manager().records("command")]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


FOLDER_COMMANDS: Final = ("evaluate", "export", "lav", "predict", "resume")
"""Commands that read a folder of data, which may be a stranger's."""


def _switch_plugins(ctx: click.Context) -> None:
    """Pass the plugin switches of the command line to the plugin manager, once and before its first use."""
    if not ctx.meta.setdefault("aipcore.plugins_switched", False):
        ctx.meta["aipcore.plugins_switched"] = True
        given: tuple[str, ...] = ctx.params.get("plugins") or ()
        disabled = [value.removeprefix("no:") for value in given if value.startswith("no:")]
        files = [named_file(value) for value in given if not value.startswith("no:")]
        words: list[str] = ctx.meta.get("aipcore.words", [])
        command = _command_of(words)
        resumes = any(word.partition("=")[0] == "--resume" for word in words)
        folder = command in FOLDER_COMMANDS or (command == "sweep" and resumes)
        files += project_files(Path.cwd(), untrusted=folder and "--trust" not in words)
        third_party = not ctx.params.get("no_plugins")
        configure_plugins(Switches.from_environment(disabled=disabled, third_party=third_party, files=files))


def _command_of(words: Sequence[str]) -> str:
    """Return the name of the command, which follows the options of `aip`; empty without one."""
    remaining = list(words)
    while remaining and remaining[0].startswith("-"):
        del remaining[: 2 if remaining[0] == "-p" else 1]
    return normalize(remaining[0]) if remaining else ""


def _check_plugins(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    del ctx, option
    for value in values:
        if value == "no:" or not _is_plugin(value):
            raise UsageError(
                f"-p {value} is not allowed. Write -p FILE.py to load a plugin file, or -p no:NAME to disable the "
                "plugin NAME."
            )
    return values


def _complete_files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    del ctx, parameter
    return [CompletionItem(incomplete, type="file")]


@click.group(
    cls=AipGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.option(
    "-p",
    "plugins",
    multiple=True,
    metavar="FILE.py|no:NAME",
    callback=_check_plugins,
    shell_complete=_complete_files,
    help="Load a plugin file, or disable a plugin. NAME is its entry point, its distribution or the stem of its file. "
    "May be repeated.",
)
@click.option("--no-plugins", is_flag=True, help="Disable all third-party plugins.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(aipcore.__version__, prog_name="aip", message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context, plugins: tuple[str, ...], no_plugins: bool, debug: bool) -> None:
    """Train TensorFlow and Keras models. Everything is a plugin.

    \b
      aip train tutorial --optimizer adabelief   train on the built-in digits
      aip train tutorial --help                  the main parameters (--help all: all of them)
      aip plugins list                           all available plugins
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped
    del plugins, no_plugins, debug
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(words: Sequence[str] | None = None) -> int:
    """Run `aip` and return its exit code: 0, 1 for an error, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        words: command line after `aip`; by default that of this process.
    """
    with guarded_output():
        try:
            code = _ended(words)
            if code == 0:
                require_output()
        except OutputError as error:
            return CLOSED_PIPE if error.closed_pipe else _fail(str(error), error.exit_code, debug=False)
        return code


def _ended(words: Sequence[str] | None) -> int:
    if words is None and (instruction := os.environ.get("_AIP_COMPLETE")):
        from aipcore.cli.completion import complete

        return complete(app, instruction, global_options_first)
    arguments = global_options_first(sys.argv[1:] if words is None else words)
    debug = "--debug" in arguments
    running: list[str] = []
    try:
        code = _run(arguments, running)
    except OutputError:
        raise
    except Terminated as end:
        report("aip", str(end) or "terminated")
        return TERMINATED
    except (KeyboardInterrupt, click.Abort) as end:
        report("aip", str(end) or "interrupted")
        return INTERRUPTED
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), color=color_wanted())
        return 0
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code, debug)
    except AuthorError as error:
        return _fail(with_traceback_hint(str(error)), error.exit_code, debug)
    except AipError as error:
        return _fail(str(error), error.exit_code, debug)
    except Exception as error:
        return _fail(_unforeseen(error, running), 1, debug)
    return code


def _run(arguments: list[str], running: list[str]) -> int:
    with app.make_context("aip", arguments, color=color_wanted()) as ctx:
        try:
            app.invoke(ctx)
        finally:
            running.extend([ctx.invoked_subcommand] if ctx.invoked_subcommand else [])
    return 0


def global_options_first(words: Sequence[str]) -> list[str]:
    """Move the options of `aip` itself to the front, so that they may stand anywhere.

    Users append `--debug` to a failed command line.
    """
    first: list[str] = []
    rest: list[str] = []
    remaining = list(words)
    while remaining and remaining[0] != "--":
        word = remaining.pop(0)
        if word in ("--debug", "--no-plugins") or (word.startswith("-p") and _is_plugin(word[2:])):
            first.append(word)
        elif word == "-p" and remaining and _is_plugin(remaining[0]):
            first += [word, remaining.pop(0)]
        else:
            rest.append(word)
    return [*first, *rest, *remaining]


def _is_plugin(text: str) -> bool:
    return text.startswith("no:") or text.endswith(".py")


def _unforeseen(error: Exception, running: Sequence[str]) -> str:
    command = " ".join(["aip", *running])
    owner = "aip"
    if running and get_plugin_manager().has("command", running[0]):
        owner = get_plugin_manager().entry("command", running[0]).plugin.source
    elif (own := author_error(error)) is not None:
        return with_traceback_hint(str(own))
    else:
        owner = _plugin_of(error) or owner
    return f"{command} failed unexpectedly ({sentence(error)}). Report this to the authors of {owner}. {TRACEBACK}"


def _plugin_of(error: BaseException) -> str | None:
    """Return the third-party plugin that raised an exception, or None."""
    plugins = [each for each in get_plugin_manager().plugins if not each.is_own and each.file is None]
    packages = {each.module.partition(".")[0]: each.source for each in plugins}
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    tops = [name.partition(".")[0] for name in frames]
    return next((packages[top] for top in reversed(tops) if top in packages), None)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    report("error", message)
    return code
