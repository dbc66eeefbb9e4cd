"""Parameters of a warm start."""

from __future__ import annotations

from pathlib import Path

from aipcore.params import Check, field, params, regex
from aipcore.training.warmstart.names import is_rule

RULE = Check("FROM->TO, where FROM is a regular expression and TO its replacement", is_rule)


@params
class WarmstartParams:
    """Initial weights from another model."""

    model: Path | None = field(
        None,
        help="Source of the initial weights. It is a run folder, its best, export or checkpoint, a .keras or "
        ".weights.h5 file, or any SavedModel. With trainer.folds, the folder of a cross-validation with the same folds "
        "gives each fold the weights of the same fold.",
    )
    allow_partial: bool = field(
        False, help="Allow missing variables and mismatched shapes. Such variables keep their initial values."
    )
    rename: tuple[str, ...] = field(
        (),
        help="Rules FROM->TO that rename variables of the source. FROM is a regular expression, and TO can use its "
        "groups.",
        check=RULE,
    )
    rename_targets: tuple[str, ...] = field(
        (), help="Rules FROM->TO that rename variables of this model. They apply before names are compared.", check=RULE
    )
    include: str | None = field(
        None, help="Regular expression for the paths of variables to load. It must match a whole path.", check=regex()
    )
    exclude: str | None = field(
        None, help="Regular expression for the paths of variables to skip. It must match a whole path.", check=regex()
    )
    trim_graph_name: bool = field(
        False,
        help="Remove the leading part that all names share. It is often the model's name. The source and this model "
        "are trimmed separately.",
    )
    add_suffix: str = field(
        "",
        help="Suffix for the layer names of the source. With _new, the layer dense of the source matches dense_new of "
        "this model.",
    )
