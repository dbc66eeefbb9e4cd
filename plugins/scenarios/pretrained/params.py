"""Parameters of pretrained models, and checks of their files without Keras."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from aipcore.errors import UsageError
from aipcore.files import MANIFEST_BYTES, expanded, read_json
from aipcore.params import at_least, field, fraction, params
from aipcore.params.names import one_of

RUNS_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Classes of Keras that run code from a configuration or from other files."""

LIBRARIES = ("keras", "keras_hub", "keras_nlp", "builtins")
"""The packages whose classes a preset may name."""


def _absolute(path: str | None) -> str | None:
    """Return the absolute path of an existing file or folder, which a record needs; other texts as they are."""
    found = None if path is None else expanded(path)
    return str(found.absolute()) if found is not None and found.exists() else path


@params
class Application:
    """A network of keras.applications with a new output layer."""

    network: str = field("MobileNetV2", help="Network of keras.applications, such as EfficientNetV2B0.")
    weights: str | None = field(
        "imagenet",
        help="Initial weights of the network. imagenet downloads those of Keras once. A path is a weights file of the "
        "network without its top. none draws random weights.",
        convert=_absolute,
    )
    dropout: float = field(0.2, help="Dropout rate of the last features. 0 disables it.", check=fraction())

    def check(self) -> None:
        """Check that a file with the weights exists.

        Raises:
            UsageError: it does not.
        """
        if self.weights not in (None, "imagenet") and not Path(self.weights).is_file():
            raise UsageError(
                f"--model.graph.weights {self.weights} is not a file. Pass imagenet, none, or the path of a file."
            )


@params
class KerasHub:
    """A preset of KerasHub with a new output layer."""

    packages: ClassVar[tuple[str, ...]] = ("keras_hub",)

    preset: str = field(
        help="Preset of KerasHub. It is a name such as bert_tiny_en_uncased, an address such as hf://USER/MODEL, or a "
        "folder.",
        contacts=lambda preset: preset if "://" in preset else "",
        convert=_absolute,
    )
    lora_rank: int = field(
        0,
        help="Rank of LoRA. 0 disables it. It freezes the backbone, and trains two small matrices and the bias of "
        "each query and value projection.",
        check=at_least(0),
    )
    gradient_checkpointing: bool = field(
        False,
        help="Recompute activations in the backward pass. It applies to the blocks of the backbone, and needs less "
        "memory and more time.",
    )
    dropout: float = field(0.1, help="Dropout rate before the output layer. 0 disables it.", check=fraction())

    def check(self) -> None:
        """Check the packages and, if the preset is a folder, what its configurations name.

        Raises:
            UsageError: a package is missing, or the folder is not a preset that contains only data.
        """
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise UsageError(
                f"The graph KerasHub needs the package {one_of(missing)}, which is not installed. Run pip install "
                "'aipcore[hub]', or use another --model.graph."
            )
        folder = Path(self.preset)
        if folder.is_dir():
            check_preset(folder)
        elif "://" not in self.preset and len(folder.parts) > 1:
            raise UsageError(
                f"--model.graph.preset {self.preset} is not a folder. Pass an existing folder, or the name of a preset."
            )


def check_preset(folder: Path) -> None:
    """Check that the configurations in the folder of a preset name only classes of Keras that run no code.

    Raises:
        UsageError: one names another class, or cannot be read.
    """
    given = f"--model.graph.preset {folder}"
    if not (folder / "config.json").is_file():
        raise UsageError(f"{given} has no config.json. Pass a folder written by save_to_preset().")
    for file in sorted(folder.glob("*.json")):
        try:
            content = read_json(file, limit=MANIFEST_BYTES)
        except OSError as error:
            raise UsageError(f"{file} cannot be read ({error.strerror}). Use another copy of the preset.") from error
        except ValueError as error:
            raise UsageError(f"{file} is not a JSON file ({error}). Use another copy of the preset.") from error
        for each in _objects(content):
            name, module, registered = (str(each.get(key) or "") for key in ("class_name", "module", "registered_name"))
            package = registered.rpartition(">")[0] or "keras"
            if name in RUNS_CODE or module.partition(".")[0] not in ("", *LIBRARIES) or package not in LIBRARIES:
                what = f"{module}.{name}" if module else registered or name
                raise UsageError(
                    f"{file} names {what}, which may run code. aip loads only presets of Keras' own classes. Convert "
                    "the preset yourself if you trust it."
                )


def _objects(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of Keras in a configuration, at any depth."""
    pending = [content]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if "class_name" in each:
                yield each
            pending += each.values()
        elif isinstance(each, list):
            pending += each
