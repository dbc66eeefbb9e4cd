"""`aip completion`: the script that makes a shell complete the words of `aip`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from aipcore.cli.style import Command

VARIABLE = "_AIP_COMPLETE"
"""What the scripts set to have `aip` answer with completions."""

WHERE = {
    "bash": 'eval "$(aip completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(aip completion zsh)"   # in ~/.zshrc',
    "fish": "aip completion fish > ~/.config/fish/completions/aip.fish",
}


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(list(WHERE)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: bash, zsh or fish.

    \b
      bash   eval "$(aip completion bash)"   in ~/.bashrc
      zsh    eval "$(aip completion zsh)"    in ~/.zshrc
      fish   aip completion fish > ~/.config/fish/completions/aip.fish
    """  # noqa: D301 - click's mark for lines that are not to be rewrapped
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "aip", VARIABLE).source(), nl=False)


def complete(app: click.Command, instruction: str) -> int:
    """Answers a completion script.

    Args:
        app: the command `aip`.
        instruction: what the script put into the variable, such as `bash_complete`.

    Returns:
        the exit code.
    """
    shell, _, what = instruction.partition("_")
    made = get_completion_class(shell)
    if made is None or what not in ("complete", "source"):
        return 1
    answering = made(app, {}, "aip", VARIABLE)
    click.echo(answering.complete() if what == "complete" else answering.source())
    return 0
