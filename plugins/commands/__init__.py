"""Built-in commands."""

from __future__ import annotations

from aipcore.plugin import CommandRecord, hookimpl


@hookimpl
def aip_commands() -> list[CommandRecord]:
    """Return the commands of this package."""
    return [
        CommandRecord(
            name="sweep",
            summary="Search hyperparameters of a scenario with Optuna.",
            build="aip_plugins.commands.sweep.command:command",
        )
    ]
