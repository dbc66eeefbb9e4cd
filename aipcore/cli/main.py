"""The command `aip`: a table of subcommands, each imported only when it runs, and one way to show errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import aipcore
from aipcore.errors import AipError, PluginError, UsageError
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import configure_plugins, get_plugin_manager
from aipcore.params.names import nearest, one_of

COMMANDS = {
    "train": ("aipcore.cli.train", "Train a scenario."),
    "params": ("aipcore.cli.params", "Print the parameters that a command line would train with."),
    "plugins": ("aipcore.cli.plugins", "List and describe plugins."),
}
"""From each command to its module, which holds it as `command`, and its summary."""

CLOSED_PIPE = 141
"""What a shell reports of a process that wrote to a closed pipe: 128 + SIGPIPE."""


class AipGroup(click.Group):
    """The subcommands of `aip`: ours from the table, plugins' from their records."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        del ctx
        return [*COMMANDS, *(name for name in _plugin_commands() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        del ctx
        if cmd_name in COMMANDS:
            command: click.Command = import_module(COMMANDS[cmd_name][0]).command
            return command
        if cmd_name in _plugin_commands():
            built: Any = get_plugin_manager().load_build("command", cmd_name)
            if not isinstance(built, click.Command):
                raise PluginError(f"The command {cmd_name} is broken: its build must name a click.Command.")
            return built
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds a command, or names the nearest."""
        command = self.get_command(ctx, args[0])
        if command is None:
            names = self.list_commands(ctx)
            near = nearest(args[0], names)
            hint = f"did you mean {one_of(near)}?" if near else f"there are {', '.join(names)}."
            raise UsageError(f"There is no command {args[0]!r}; {hint}")
        return args[0], command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing any."""
        plugins = _plugin_commands()
        rows = [(name, COMMANDS[name][1] if name in COMMANDS else plugins[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _plugin_commands() -> dict[str, str]:
    manager = get_plugin_manager()
    return {name: manager.summary("command", name) for name in manager.names("command")}


def _disabled(words: Sequence[str]) -> list[str]:
    disabled = []
    for word in words:
        if not word.startswith("no:") or not word[3:]:
            raise UsageError(f"-p {word} is not understood: write -p no:NAME to leave a plugin out.")
        disabled.append(word[3:])
    return disabled


@click.group(cls=AipGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(aipcore.__version__, prog_name="aip")
@click.option("-p", "plugin", multiple=True, metavar="no:NAME", help="Leave out the plugin NAME; may be repeated.")
@click.option("--no-plugins", is_flag=True, help="Leave out all plugins that do not come with aip.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(plugin: tuple[str, ...], no_plugins: bool, debug: bool) -> None:
    """Train TensorFlow and Keras models; everything is a plugin.

    \b
    aip train tutorial --optimizer adabelief    train on digits that come with aip
    aip train tutorial --help                   all parameters of a scenario
    aip plugins list                            what there is to choose from
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped
    del plugin, no_plugins, debug


def main() -> None:
    """Runs `aip` and ends the process: 0, 1 for an error, 2 for bad input, 130 for Ctrl-C."""
    words = sys.argv[1:]
    debug = "--debug" in words
    try:
        code = _run([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CLOSED_PIPE
    except click.exceptions.Exit as end:
        code = end.exit_code
    except AipError as error:
        code = _fail(str(error), error.exit_code, debug)
    except click.ClickException as error:
        code = _fail(error.format_message(), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("Interrupted; nothing was saved.", 130, debug)
    except SystemExit:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        message = f"Something that aip does not foresee went wrong ({type(error).__name__}: {text})"
        code = _fail(f"{message}; run again with --debug for the traceback.", 1, debug)
    sys.exit(code)


def _run(words: list[str]) -> int:
    disabled, third_party = _leading_switches(words)
    configure_plugins(Switches.from_environment(disabled=disabled, third_party=third_party))
    result = cli.main(args=words, prog_name="aip", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _leading_switches(words: list[str]) -> tuple[list[str], bool]:
    """The plugin switches before the subcommand; plugins are loaded to find that, so they must be known earlier."""
    names: list[str] = []
    third_party = True
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--no-plugins":
            third_party = False
        elif word == "-p" and rest:
            names.append(rest.pop(0))
        elif word.startswith("-p") and len(word) > 2:
            names.append(word[2:])
    return _disabled(names), third_party


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if sys.stderr.isatty():
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(message, err=True)
    else:
        click.echo(f"error: {message}", err=True)
    return code
