"""Decoupled weight decay that leaves out variables by the regular expressions of their paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from aip_plugins.optimizers.params import DecayingParams, MomentsParams

from aipcore.scenario.paths import matching


class DecayByPath:
    """Mixed into a Keras optimizer: decays all variables but those whose path matches a pattern.

    Keras itself compares patterns with a variable's bare name ("kernel"), which cannot tell layers apart.

    Attributes:
        exclude_paths: the patterns.
        excluded: the paths of the variables that do not decay, once the optimizer is built.
    """

    exclude_paths: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()

    def build(self, variables: Sequence[Any]) -> None:
        """Finds the variables that do not decay, then makes the optimizer's own.

        Raises:
            ParamsError: a pattern matches no variable.
        """
        if not self.built:  # type: ignore[attr-defined]
            self.excluded = matching_any(self.exclude_paths, variables, "--optimizer.exclude_from_weight_decay")
            excluded = [variable for variable in variables if variable.path in self.excluded]
            if excluded:
                self.exclude_from_weight_decay(var_list=excluded)  # type: ignore[attr-defined]
        super().build(variables)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """The optimizer's configuration and the patterns."""
        return {**super().get_config(), "exclude_paths": list(self.exclude_paths)}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Rebuilds the optimizer from `get_config`."""
        config = dict(config)
        exclude = config.pop("exclude_paths", ())
        made = super().from_config(config, custom_objects)  # type: ignore[misc]
        made.exclude_paths = tuple(exclude)
        return made


def matching_any(patterns: Sequence[str], variables: Sequence[Any], option: str) -> frozenset[str]:
    """Returns the paths of the variables that one of the patterns matches.

    Raises:
        ParamsError: a pattern matches no variable.
    """
    paths = [variable.path for variable in variables]
    return frozenset(
        path for pattern in patterns for path in matching(pattern, paths, option, "trained variable", whole=False)
    )


def decaying(cls: type, params: DecayingParams, **arguments: Any) -> Any:
    """Makes an optimizer of a class with `DecayByPath`, its weight decay as the parameters say."""
    # AdamW insists on a number, the others take None to skip the work.
    none = 0.0 if issubclass(cls, keras.optimizers.AdamW) else None
    optimizer = cls(weight_decay=params.weight_decay or none, **arguments)
    optimizer.exclude_paths = params.exclude_from_weight_decay
    return optimizer


def moments(params: MomentsParams) -> dict[str, float]:
    """The arguments that optimizers of Adam's family share."""
    return {"beta_1": params.beta_1, "beta_2": params.beta_2, "epsilon": params.epsilon}
