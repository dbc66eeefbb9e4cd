"""Checks of commands."""

from __future__ import annotations

from aipcore.errors import UsageError
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import require
from aipcore.testing.subject import Subject


@conformance_check("command", light=True)
def is_a_command(subject: Subject) -> None:
    """`build` names a `click.Command`, which gets the registered name."""
    import click

    built = subject.build
    require(isinstance(built, click.Command), f"build names a {type(built).__name__}: name a click.Command")


@conformance_check("command", needs=("is_a_command",), light=True)
def has_help_without_tensorflow(subject: Subject) -> None:
    """`--help` describes the command without importing TensorFlow, Keras, NumPy or grain."""
    answer = subject.processes.light("command", subject.name)
    require(not answer["error"], answer["error"])
    new = [name for name in answer["help_heavy"] if name not in answer["heavy"]]
    require(not new, f"--help imports {', '.join(new)}: import it inside the functions that need it")
    text = subject.build.help or ""  # type: ignore[attr-defined]
    require(text.strip(), "it has no help: add a docstring to its function")


@conformance_check("command", needs=("is_a_command",), light=True)
def refuses_unknown_options(subject: Subject) -> None:
    """An unknown option is an error, raised before the command starts its work."""
    import click

    try:
        subject.build.main(["--no-such-option-exists"], prog_name=subject.name, standalone_mode=False)  # type: ignore[attr-defined]
    except (click.UsageError, UsageError):
        # Both become one sentence and exit code 2.
        return
    raise AssertionError("it accepts --no-such-option-exists")
