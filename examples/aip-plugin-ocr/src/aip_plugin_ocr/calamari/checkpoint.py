"""The files of a Calamari 2 model, read as data. Nothing that they name is imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import UsageError

LIMIT = 16 * 2**20
"""The most bytes of the JSON file."""

DIRECTIONS = {"L": "ltr", "R": "rtl", "auto": "auto"}

KERNELS = ("kernel", "recurrent_kernel", "bias")


@attrs.frozen(kw_only=True)
class CalamariModel:
    """A model of Calamari 2.

    Attributes:
        weights: the folder of the SavedModel, or an h5 file.
        layers: the network, in the text form of `--model.layers`.
        weighted: the text form and the name of each layer with weights.
        data: parameters of the group `data`.
        rules: rules for texts, as in the file of `--data.text_rules`.
        factor: factor of the logits.
    """

    weights: Path
    layers: str
    weighted: tuple[tuple[str, str], ...]
    data: Mapping[str, Any]
    rules: Mapping[str, Any]
    factor: float


def read_model(path: Path) -> CalamariModel:
    """Read the description of a model.

    Args:
        path: `NAME.ckpt`, `NAME.ckpt.json` or `NAME.ckpt.h5`.

    Raises:
        UsageError: a file is missing, damaged, too large, or describes a model that cannot be imported.
    """
    stem = path.with_suffix("") if path.suffix in (".json", ".h5") else path
    record = _read_json(stem.with_name(f"{stem.name}.json"))
    found = [each for each in (stem, stem.with_name(f"{stem.name}.h5")) if each.exists()]
    if not found:
        raise UsageError(f"The weights {stem} are missing. Copy the folder or the .h5 file beside its .json file.")
    model, data = record.group("scenario").group("model"), record.group("scenario").group("data")
    if data.get("input_channels", int, 1) != 1:
        raise UsageError(f"{record.path}: the model reads colored lines, but aip reads gray ones. Use another model.")
    layers = list(_layers(model))
    temperature = float(model.get("temperature", (int, float), -1))
    processors = {each.kind: each for each in data.group("pre_proc").records("processors")}
    height = data.get("line_height", int, 48)
    return CalamariModel(
        weights=found[0],
        layers=",".join(text for text, _, _ in layers),
        weighted=tuple((text, name) for text, name, weighted in layers if weighted),
        data={"alphabet": _alphabet(data), "height": height, **_preparation(processors, height, record.path)},
        rules=_rules(processors),
        factor=1 / temperature if temperature > 0 else 1.0,
    )


def ordered_weights(arrays: Mapping[str, Any], model: CalamariModel) -> list[Any]:
    """Return the weights of the layers in order, and those of the output layer with the blank first, as in aip.

    Args:
        arrays: the variables of the SavedModel or h5 file by name.
        model: its description.

    Raises:
        UsageError: a variable is missing, or a layer has another size than in the description.
    """
    import numpy as np

    def find(layer: str, part: str) -> Any:
        # Names begin with the names of the graph, which depend on the version.
        found = [array for name, array in arrays.items() if f"/{name}".endswith(part) and f"/{layer}/" in f"/{name}"]
        if len(found) != 1:
            raise UsageError(f"{model.weights} has {len(found)} variables {layer}{part} instead of one. It is damaged.")
        return found[0]

    def check(described: str, found: str, name: str) -> None:
        # Before a model is built: the sizes of a description are not bounded by those of the file.
        if not f"{described}:".startswith(f"{found}:"):
            raise UsageError(
                f"{model.weights}: {name} is {found}, but {described} in its .json file. Use the right one."
            )

    weights = []
    for text, name in model.weighted:
        if text.startswith("lstm"):
            cells = [
                find(name, f"/{direction}_lstm/lstm_cell/{kernel}")
                for direction in ("forward", "backward")
                for kernel in KERNELS
            ]
            check(text, f"lstm={cells[0].shape[-1] // 4}", name)
            weights += cells
        else:
            kernel, bias = find(name, "/kernel"), find(name, "/bias")
            along, across, _, filters = kernel.shape if kernel.ndim == 4 else (0, 0, 0, 0)
            check(text, f"conv={filters}:{along}x{across}", name)
            weights += [kernel, bias]
    output = [find("logits", "/kernel"), find("logits", "/bias")]
    check(f"dense={len(model.data['alphabet']) + 1}", f"dense={output[0].shape[-1]}", "logits")
    # Calamari's blank is the last class.
    return weights + [np.roll(array, 1, axis=-1) * array.dtype.type(model.factor) for array in output]


class _Record:
    """A part of a JSON file, whose values are checked when they are used.

    Attributes:
        path: the file.
    """

    def __init__(self, values: Any, path: Path, at: str = "") -> None:
        self._values = values if isinstance(values, Mapping) else {}
        self.path = path
        self._at = at

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """Return a value.

        Raises:
            UsageError: it is missing without a default, or is of another type.
        """
        value = self._values.get(name, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(
                f"{self.path} has no valid {self._at}{name}. It does not describe a model of Calamari 2. Use the .json "
                "file beside the model."
            )
        return value

    def group(self, name: str) -> _Record:
        """Return a group of values."""
        return _Record(self.get(name, dict), self.path, f"{self._at}{name}.")

    def records(self, name: str) -> list[_Record]:
        """Return a list of groups."""
        listed = self.get(name, list)
        return [_Record(each, self.path, f"{self._at}{name}.{number}.") for number, each in enumerate(listed)]

    @property
    def kind(self) -> str:
        """The name of the class of the group, without its module and `Params`."""
        return str(self.get("__cls__", str)).rpartition(":")[2].removesuffix("Params")

    def pair(self, name: str) -> str:
        """Return a size along and across the line, in the text form of a network."""
        sizes = self.group(name)
        return f"{sizes.get('x', int)}x{sizes.get('y', int)}"


def _read_json(path: Path) -> _Record:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise UsageError(f"{path} has more than {LIMIT:,} bytes. Use the .json file beside a model of Calamari 2.")
        return _Record(json.loads(content), path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}). Name a model of Calamari 2, such as best.ckpt."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON. Use the .json file beside a model of Calamari 2.") from error


def _layers(model: _Record) -> Iterator[tuple[str, str, bool]]:
    """Yield the text form, the name and whether it has weights, for each layer."""
    counts: dict[str, int] = {}
    for layer in model.records("layers"):
        kind = layer.kind.removesuffix("Layer")
        number = counts[kind] = counts.get(kind, -1) + 1
        name = layer.get("name", (str, type(None))) or f"{kind.lower().removeprefix('bi')}_{number}"
        match kind:
            case "Conv2D" if _is_plain(layer):
                strides = layer.pair("strides")
                more = "" if strides == "1x1" else f":{strides}"
                yield f"conv={layer.get('filters', int)}:{layer.pair('kernel_size')}{more}", name, True
            case "MaxPool2D" if layer.get("padding", str) == "same":
                strides = layer.pair("strides")
                more = "" if "-" in strides or strides == layer.pair("pool_size") else f":{strides}"
                yield f"pool={layer.pair('pool_size')}{more}", name, False
            case "BiLSTM" if layer.get("merge_mode", str) == "concat":
                yield f"lstm={layer.get('hidden_nodes', int)}", name, True
            case "Dropout":
                yield f"dropout={layer.get('rate', (int, float))}", name, False
            case _:
                raise UsageError(
                    f"{model.path}: the layer {name} ({kind}) cannot be imported. Convolutions with relu, "
                    "max-pooling, bidirectional LSTMs and dropout can, with padding same and merge mode concat."
                )


def _is_plain(layer: _Record) -> bool:
    return (layer.get("padding", str), layer.get("activation", str)) == ("same", "relu")


def _alphabet(data: _Record) -> str:
    characters = data.group("codec").get("charset", list)
    if len(characters) < 2 or characters[0] != "" or not all(isinstance(each, str) for each in characters):
        raise UsageError(f"{data.path}: the alphabet does not begin with the blank. Use a model of Calamari 2.")
    several = [each for each in characters[1:] if len(each) != 1]
    if several or len(set(characters)) < len(characters):
        shown = f"{several[0]!r} is not one code point" if several else "characters occur twice"
        raise UsageError(f"{data.path}: {shown} in the alphabet, which aip does not support. Use another model.")
    return "".join(characters)


def _preparation(processors: Mapping[str, _Record], height: int, path: Path) -> dict[str, Any]:
    """Return parameters of the preparation of images and of the direction of texts."""
    center, final = processors.get("CenterNormalizerProcessor"), processors.get("FinalPreparationProcessor")
    if center is None or final is None:
        raise UsageError(
            f"{path}: the lines were not prepared with Calamari's CenterNormalizer and FinalPreparation. Only models "
            "that use both can be imported."
        )
    extra = center.get("extra_params", list, [4, 1.0, 0.3])
    names = ("extent", "smoothing", "center_smoothing")
    if len(extra) != len(names) or not all(isinstance(each, int | float) for each in extra):
        raise UsageError(f"{path}: extra_params of the CenterNormalizer are not three numbers. Use another model.")
    calamari = {"name": "Calamari", "height": height, "padding": final.get("pad", int, 16)}
    calamari |= {name: float(value) for name, value in zip(names, extra, strict=True)}
    bidi = processors.get("BidiTextProcessor")
    direction = "none" if bidi is None else DIRECTIONS.get(bidi.get("bidi_direction", str, "auto"), "auto")
    return {"image_processors": [calamari], "text_direction": direction}


def _rules(processors: Mapping[str, _Record]) -> dict[str, Any]:
    normalizer = processors.get("TextNormalizerProcessor")
    rules: dict[str, Any] = {"white_space": "StripTextProcessor" in processors}
    return rules if normalizer is None else {"form": normalizer.get("unicode_normalization", str), **rules}
