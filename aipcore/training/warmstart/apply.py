"""The steps of a warm start: reading, matching, and assigning the model's variables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from aipcore.distributed.strategy import components
from aipcore.errors import ParamsError
from aipcore.scenario.paths import matching
from aipcore.training.artifacts import WEIGHTS, find_artifact, recorded_params
from aipcore.training.warmstart.adapting import Adapted, AdaptWeights, adapted_value
from aipcore.training.warmstart.matching import Matches, Row, Target, WarmStart, match
from aipcore.training.warmstart.names import add_suffix, rename, some, trim
from aipcore.training.warmstart.params import WarmstartParams
from aipcore.training.warmstart.readers import read_weights
from aipcore.training.warmstart.variables import SEEDS, model_targets, under_tensorflow_names

logger = logging.getLogger("aipcore.training")


def warm_start(model: Any, params: WarmstartParams, adapt: AdaptWeights | None = None) -> WarmStart | None:
    """Load weights into a built Keras model; return None without a warm start.

    Seeds of random generators are not loaded; statistics of batch normalisation are.

    Args:
        model: the model.
        params: the source and the rules.
        adapt: `Scenario.adapt_weights`.

    Raises:
        ScenarioError: `adapt` returned a value that does not fit; the model is unchanged.
        ParamsError: the weights cannot be read, rules do not match, no variable matches, or a variable is missing or of
            another shape and `allow_partial` is off; the model is unchanged.
    """
    if params.model is None:
        return None
    source = find_artifact(params.model, WEIGHTS)
    for warning in source.warnings:
        logger.warning(warning)
    weights = read_weights(source)
    everything, variables = model_targets(model, weights.naming)
    targets = _renamed_targets(everything, params)
    wanted = _selected(targets, params)
    arrays = {name: array for name, array in weights.arrays.items() if not _is_seed(name)}
    names = _renamed_source(list(arrays), params, {each.name for each in targets})
    if source.kind == "SavedModel":
        targets = under_tensorflow_names(targets, variables, set(names))
    original = dict(zip(names, arrays, strict=True))
    shapes: dict[str, tuple[int, ...]] = {name: arrays[before].shape for name, before in original.items()}
    matches = match([each for each in targets if each.path in wanted], shapes)
    adapted: dict[str, Adapted] = {}
    if adapt is not None:
        before = recorded_params(source)
        names_there = {**matches.differing, **matches.found}
        for each, variable in zip(targets, variables, strict=True):
            if (name := names_there.get(each.path)) is not None:
                value = adapted_value(adapt, each.path, variable, arrays[original[name]], before)
                adapted |= {} if value is None else {each.path: value}
    rows = _rows(targets, wanted, matches, original, shapes, adapted)
    done = WarmStart(path=source.path, kind=source.kind, rows=rows)
    _check(done, params, matches, [each.name for each in everything], weights.shared)
    plain = {path: original[name] for path, name in matches.found.items() if path not in adapted}
    _check_types(targets, variables, arrays, plain)
    for each, variable in zip(targets, variables, strict=True):
        if each.path in adapted:
            _assign(variable, adapted[each.path].value)
        elif each.path in plain:
            _assign(variable, arrays[plain[each.path]])
    return done


def _is_seed(name: str) -> bool:
    return name.rpartition("/")[2].startswith(SEEDS)


def _renamed_targets(targets: Sequence[Target], params: WarmstartParams) -> list[Target]:
    names = [each.name for each in targets]
    renamed = rename(names, params.rename_targets, "--warmstart.rename_targets", "this model")
    # A layer renamed by the user no longer counts as numbered by Keras.
    units = [each.units if each.name == name else () for each, name in zip(targets, renamed, strict=True)]
    if params.trim_graph_name and (trimmed := trim(renamed)) != renamed:
        renamed, units = trimmed, [tuple(unit[1:] for unit in each) for each in units]
    return [attrs.evolve(each, name=name, units=own) for each, name, own in zip(targets, renamed, units, strict=True)]


def _renamed_source(names: list[str], params: WarmstartParams, known: set[str]) -> list[str]:
    renamed = rename(names, params.rename, "--warmstart.rename", str(params.model))
    if params.trim_graph_name:
        renamed = trim(renamed)
    if params.add_suffix:
        renamed = [add_suffix(name, params.add_suffix, known) for name in renamed]
    return renamed


def _selected(targets: Sequence[Target], params: WarmstartParams) -> set[str]:
    paths = [each.path for each in targets]
    selected = set(paths)
    for option, pattern, keeps in (("include", params.include, True), ("exclude", params.exclude, False)):
        if pattern is None:
            continue
        found = set(matching(pattern, paths, f"--warmstart.{option}", "variable", whole=True))
        selected &= found if keeps else set(paths) - found
    if not selected:
        raise ParamsError("--warmstart.include and --warmstart.exclude leave no variable to load. Change one of them.")
    return selected


def _rows(
    targets: Sequence[Target],
    wanted: set[str],
    matches: Matches,
    original: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    adapted: Mapping[str, Adapted],
) -> list[Row]:
    rows = []
    used = set()
    for each in targets:
        name: str | None
        if each.path not in wanted:
            name = each.name if each.name in shapes else None
            status: Any = "skipped"
        elif (name := matches.found.get(each.path)) is not None:
            status = "loaded" if original[name] == each.own_name else "renamed"
        elif (name := matches.differing.get(each.path)) is not None:
            status = "shape mismatch"
        else:
            status = "missing"
        value = adapted.get(each.path)
        if name is not None:
            used.add(name)
        rows.append(
            Row(
                path=each.path,
                source="" if name is None else original[name],
                shape=each.shape,
                source_shape=None if name is None else shapes[name],
                status=status if value is None else "adapted",
                adapted=None if value is None else value.kept,
            )
        )
    return rows + [
        Row(path="", source=original[name], shape=shape, source_shape=shape, status="skipped")
        for name, shape in shapes.items()
        if name not in used
    ]


def _check(
    done: WarmStart, params: WarmstartParams, matches: Matches, here: Sequence[str], shared: Sequence[str]
) -> None:
    there = [row.source for row in done.rows if row.source]
    places = (
        f"Several variables of the source share the name {some(shared)}, so their places are used as names. "
        if shared
        else ""
    )
    if not any(row.is_loaded for row in done.rows):
        raise ParamsError(
            f"--warmstart.model {done.path}: no variable matches. The source has {some(there)}. This model has "
            f"{some(here)}. {places}Map the names with --warmstart.rename 'FROM->TO' or "
            "--warmstart.trim_graph_name True, or use the weights of a similar model."
        )
    if params.allow_partial:
        return
    missing = [f"{row.path} {row.shape}" for row in done.rows if row.status == "missing"]
    differing = [
        f"{row.path} is {row.shape} here and {row.source_shape} in the source"
        for row in done.rows
        if row.status == "shape mismatch"
    ]
    if not missing and not differing:
        return
    unused = [f"{row.source} {row.shape}" for row in done.rows if not row.path]
    parts = [f"Missing in the source: {some(missing)}."] if missing else []
    parts += [f"Different shapes: {some(differing)}."] if differing else []
    parts += [f"Only in the source: {some(unused)}."] if unused else []
    hint = "Layers of equal shapes can be matched in several ways. " if matches.ambiguous else places
    raise ParamsError(
        f"The weights of {done.path} do not fit this model. {' '.join(parts)} {hint}Map names with "
        "--warmstart.rename 'FROM->TO', leave variables out with --warmstart.exclude, or keep the initial values of "
        "all of these with --warmstart.allow_partial True."
    )


def _check_types(
    targets: Sequence[Target], variables: Sequence[Any], arrays: Mapping[str, Any], found: Mapping[str, str]
) -> None:
    for each, variable in zip(targets, variables, strict=True):
        if each.path not in found:
            continue
        here, there = str(variable.dtype), arrays[found[each.path]].dtype.name
        if here != there and not ("float" in here and "float" in there):
            raise ParamsError(
                f"{each.path} has type {here}, but {found[each.path]} in the source has type {there}. Leave it out "
                "with --warmstart.exclude, or map names with --warmstart.rename."
            )


def _assign(variable: Any, array: Any) -> None:
    dtype = np.dtype(str(variable.dtype)) if str(variable.dtype) != "bfloat16" else array.dtype
    for part in components(variable):
        part.assign(array.astype(dtype))
