"""Decoupled weight decay that excludes variables by regular expressions for their paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from aip_plugins.optimizers.params import DecayingParams, MomentsParams

from aipcore.scenario.paths import matching


class DecayByPath:
    """A mixin for Keras optimizers that decays all variables except those whose path matches a pattern.

    Keras itself compares patterns with a variable's bare name ("kernel"), which does not distinguish layers.

    Attributes:
        exclude_paths: the patterns.
        excluded: the paths of the variables without decay, once the optimizer is built.
    """

    exclude_paths: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()

    def build(self, variables: Sequence[Any]) -> None:
        """Find the variables without decay, then create the optimizer's own variables.

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
        """Return the optimizer's configuration and the patterns."""
        return {**super().get_config(), "exclude_paths": list(self.exclude_paths)}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Create the optimizer from the result of `get_config`."""
        config = dict(config)
        exclude = config.pop("exclude_paths", ())
        made = super().from_config(config, custom_objects)  # type: ignore[misc]
        made.exclude_paths = tuple(exclude)
        return made


def matching_any(patterns: Sequence[str], variables: Sequence[Any], option: str) -> frozenset[str]:
    """Return the paths of the variables that match any pattern.

    Raises:
        ParamsError: a pattern matches no variable.
    """
    paths = [variable.path for variable in variables]
    return frozenset(
        path for pattern in patterns for path in matching(pattern, paths, option, "trained variable", whole=False)
    )


def decaying(cls: type, params: DecayingParams, **arguments: Any) -> Any:
    """Return an optimizer of a class with `DecayByPath`, with the weight decay of the parameters."""
    # AdamW requires a number; the others accept None to skip the decay.
    none = 0.0 if issubclass(cls, keras.optimizers.AdamW) else None
    optimizer = cls(weight_decay=params.weight_decay or none, **arguments)
    optimizer.exclude_paths = params.exclude_from_weight_decay
    return optimizer


def moments(params: MomentsParams) -> dict[str, float]:
    """Return the arguments shared by optimizers of the Adam family."""
    return {"beta_1": params.beta_1, "beta_2": params.beta_2, "epsilon": params.epsilon}
