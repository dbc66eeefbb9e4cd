"""A module that should be imported later."""

import click
import numpy as np

from aipcore.plugin import OptimizerParams, field, fraction, params


@params
class Heavy(OptimizerParams):
    """A class with a number of NumPy."""

    momentum: float = field(float(np.float64(0.9)), help="Momentum of the steps.", check=fraction())


@click.command()
def hello():
    """Says hello."""
    click.echo("hello")
