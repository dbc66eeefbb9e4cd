"""Commands with one fault each."""

import click


def function():
    """Do nothing: a function that is not a command."""


class SlowHelp(click.Command):
    def format_help(self, ctx, formatter):
        import numpy as np

        formatter.write(f"Pi is {np.pi}.\n")


@click.command(cls=SlowHelp)
def slow_help():
    """Says what pi is."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def lenient(words):
    """Takes anything."""
    del words
