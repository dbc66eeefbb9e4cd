"""Parameters of a warm start."""

from __future__ import annotations

from pathlib import Path

from aipcore.params import Check, field, params, regex
from aipcore.training.warmstart.names import is_rule

RULE = Check("FROM->TO, FROM a regular expression and TO what to put in its place", is_rule)


@params
class WarmstartParams:
    """Initial weights from another model."""

    model: Path | None = field(
        None,
        help="What to take the weights from: an output folder of aip, its best, export or checkpoint, a .keras or "
        ".weights.h5 file, or any SavedModel.",
    )
    allow_partial: bool = field(
        False, help="Leave variables that are missing there or have another shape as they are initialised."
    )
    rename: tuple[str, ...] = field(
        (), help="Rules FROM->TO for the names that are found there, regular expressions with groups.", check=RULE
    )
    rename_targets: tuple[str, ...] = field(
        (), help="Rules FROM->TO for the names of this model's variables, before they are compared.", check=RULE
    )
    include: str | None = field(
        None, help="Load only the variables whose path matches this regular expression as a whole.", check=regex()
    )
    exclude: str | None = field(
        None, help="Load no variable whose path matches this regular expression as a whole.", check=regex()
    )
    trim_graph_name: bool = field(
        False, help="Drop the first part of the names, such as the model's name, where all names of a side share it."
    )
    add_suffix: str = field(
        "", help="Added to the layers' names found there: with _new, the layer dense there is dense_new here."
    )
