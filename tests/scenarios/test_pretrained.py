"""Pretrained models: presets and networks as graphs, refused files, LoRA, resume, exports, and the numbers of Keras."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aip_plugins.scenarios.pretrained import params as pretrained
from aip_plugins.scenarios.pretrained.params import Application, KerasHub, check_preset
from aip_plugins.scenarios.text_classification.params import TextKerasHub
from aip_plugins.scenarios.text_classification.requests import made_requests

import aipcore
from aipcore.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

LENGTH = 24
TEXT = ("--model.graph", "KerasHub", "--model.graph.length", str(LENGTH), "--trainer.tune", "off")


def write_config(folder: Path, content: str) -> Path:
    """Write a folder that looks like a preset."""
    folder.mkdir()
    (folder / "config.json").write_text(content, encoding="utf-8")
    return folder


BERT = {"module": "keras_hub.src.models.bert.bert_backbone", "class_name": "BertBackbone"}
BERT |= {"registered_name": "keras_hub>BertBackbone"}
UNTRUSTED: dict[str, dict[str, Any]] = {
    "lambda": {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
    "code": {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}},
    "saved_model": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}},
    "module": {"module": "os.path", "class_name": "Path", "config": {}},
    "registered": {"module": None, "class_name": "Mine", "config": {}, "registered_name": "mine>Mine"},
}


@pytest.mark.parametrize("kind", UNTRUSTED)
def test_presets_that_may_run_code_are_refused(tmp_path: Path, kind: str, refused: Any) -> None:
    """A configuration may name only classes of Keras and KerasHub that are data, at any depth."""
    inner = {"dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}}
    good = {**BERT, "config": inner}
    check_preset(write_config(tmp_path / "good", json.dumps(good)))
    bad = {**BERT, "config": {**inner, "layers": [{"inner": UNTRUSTED[kind]}]}}
    with refused(UsageError):
        check_preset(write_config(tmp_path / "bad", json.dumps(bad)))


def test_unusable_options_are_refused(tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is refused before TensorFlow is imported."""
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None if name == "tensorflow_text" else name)
    with refused(UsageError):
        TextKerasHub(preset="bert_tiny_en_uncased").check()
    with refused(UsageError):
        KerasHub(preset=str(tmp_path / "missing")).check()
    with refused(UsageError):
        KerasHub(preset=str(tmp_path)).check()
    with refused(UsageError):
        KerasHub(preset=str(write_config(tmp_path / "damaged", "{"))).check()
    with refused(UsageError):
        Application(weights="nothing.h5").check()
    KerasHub(preset="bert_tiny_en_uncased").check()
    KerasHub(preset="hf://user/model").check()


def test_only_addresses_are_contacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in a run folder needs trust; names of the library and folders do not. Paths are recorded absolute."""
    contacts: Any = KerasHub.__attrs_attrs__[0].metadata["aip"].contacts  # type: ignore[attr-defined]
    assert [contacts(each) for each in ("hf://user/model", "bert_tiny_en_uncased", "/a/b")] == [
        "hf://user/model",
        "",
        "",
    ]
    monkeypatch.chdir(tmp_path)
    Path("preset").mkdir()
    assert KerasHub(preset="preset").preset == str(tmp_path / "preset")


def test_operations_of_another_package(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """A SavedModel with unknown operations is loaded again after an import of `tensorflow_text`, if it is installed."""
    from aipcore.scenario import preprocessing

    done: list[str] = []

    def load(folder: str) -> str:
        if "tensorflow_text" not in done:
            raise FileNotFoundError("Op type not registered 'CaseFoldUTF8' in binary running on here.")
        return folder

    monkeypatch.setattr(preprocessing.tf.saved_model, "load", load)
    monkeypatch.setattr(preprocessing, "import_module", done.append)
    monkeypatch.setattr(preprocessing, "find_spec", lambda name: None)
    with refused(ValueError):
        preprocessing.load_saved_model(Path("model"))
    monkeypatch.setattr(preprocessing, "find_spec", lambda name: name)
    assert preprocessing.load_saved_model(Path("model")) == "model"


@pytest.fixture(scope="module")
def hub() -> Any:
    """Return the package, or skip the test without it."""
    pytest.importorskip("tensorflow_text")
    return pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def preset(hub: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Return a function that writes a tiny preset for texts with random weights, by the dropout rate."""
    import keras

    made: dict[float, Path] = {}

    def write(dropout: float) -> Path:
        if dropout not in made:
            folder = made[dropout] = tmp_path_factory.mktemp("presets") / "tiny"
            keras.utils.set_random_seed(3)
            words = sorted({word for sample in made_requests(200, 1) for word in sample.inputs.lower().split()})
            vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *(word.strip(".,") for word in words)]
            vocabulary = list(dict.fromkeys(vocabulary))
            models = hub.models
            backbone = models.BertBackbone(len(vocabulary), 1, 2, 8, 16, dropout=dropout, max_sequence_length=LENGTH)
            backbone.save_to_preset(str(folder))
            models.BertTokenizer(vocabulary, lowercase=True).save_to_preset(str(folder))
        return made[dropout]

    return write


def texts() -> tuple[list[str], Any]:
    """Return texts and the numbers of their classes."""
    samples = made_requests(96, 5)
    names = sorted({sample.targets for sample in samples})
    return [sample.inputs for sample in samples], np.array([names.index(sample.targets) for sample in samples])


def train_file(folder: Path) -> str:
    """Write the texts to a table."""
    lines = [f'"{sample.inputs}",{sample.targets}\n' for sample in made_requests(96, 5)]
    (folder / "train.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return str(folder / "train.csv")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_losses_are_those_of_keras(hub: Any, preset: Any, make_trainer: Any, tmp_path: Path, rank: int) -> None:
    """The losses are those of KerasHub's own classifier in `Model.fit`, also with LoRA and recomputed activations."""
    import keras
    from aip_plugins.scenarios.text_classification.scenario import TextClassification

    folder = str(preset(0.0))
    trainer = make_trainer(
        TextClassification, *TEXT, "--model.graph.preset", folder, "--model.graph.lora_rank", str(rank),
        "--model.graph.gradient_checkpointing", str(rank > 0), "--model.graph.dropout", "0", "--train.lists",
        train_file(tmp_path), "--train.shuffle", "False", "--learning_rate", "Constant", "--learning_rate.lr", "0.003",
        "--data.classes", "account", "delivery", "payment", "returns", "--trainer.epochs", "2",
    )  # fmt: skip
    model = hub.models.TextClassifier.from_preset(folder, num_classes=4, dropout=0.0, preprocessor=None)
    given = trainer.engine.graph.model
    stored = model.backbone.get_weights()
    np.testing.assert_array_equal(stored[0], given.get_layer("backbone").get_weights()[0])
    if rank:
        model.backbone.enable_lora(rank)
    assert [tuple(each.shape) for each in model.weights] == [tuple(each.shape) for each in given.weights]
    model.set_weights(given.get_weights())
    preprocessor = hub.models.TextClassifierPreprocessor.from_preset(folder, sequence_length=LENGTH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"], jit_compile=False)
    inputs, labels = texts()
    expected = model.fit(preprocessor(inputs), labels, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    found = trainer.fit().history
    np.testing.assert_allclose([each["loss"] for each in found], expected["loss"], atol=1e-5)
    np.testing.assert_allclose([each["accuracy"] for each in found], expected["accuracy"], atol=1e-6)


@pytest.mark.slow
def test_too_many_tokens(preset: Any, make_trainer: Any, refused: Any) -> None:
    """A length above that of the preset is refused."""
    from aip_plugins.scenarios.text_classification.scenario import TextClassification

    words = ("--model.graph", "KerasHub", "--model.graph.preset", str(preset(0.0)), "--model.graph.length", "25")
    words += ("--data.classes", "account", "delivery", "payment", "returns")
    with refused(UsageError):
        make_trainer(TextClassification, *words)


def variables(folder: Path) -> dict[str, Any]:
    """Return the variables of the model in a checkpoint by path."""
    from aipcore.training.checkpoint.weights import checkpoint_weights

    return dict(checkpoint_weights(folder))


@pytest.mark.slow
def test_a_run_is_resumed_exported_and_started_from(preset: Any, tmp_path: Path) -> None:
    """Frozen weights and matrices of LoRA are bit-equal after a resume, in the export and after a warm start.

    The backbone is frozen in the first epoch. It has dropout, and computes in bfloat16.
    """
    import tensorflow as tf

    params: dict[str, Any] = {
        "model.graph": "KerasHub", "model.graph.preset": str(preset(0.5)), "model.graph.length": LENGTH,
        "model.graph.lora_rank": 2, "trainer.tune": "off",
        "trainer.jit_compile": "off", "trainer.random_seed": 3, "trainer.epochs": 2, "learning_rate.lr": 0.01,
        "train.lists": [train_file(tmp_path)], "trainer.rates": ["backbone=0", "backbone@2=0.5"],
        "trainer.export_best": False, "trainer.precision": "bfloat16",
    }  # fmt: skip
    folder = tmp_path / "run"
    aipcore.train("text_classification", params, output_dir=folder, quiet=True)
    between, last = sorted((folder / "checkpoint").glob("step-*"))
    first, whole = variables(between), variables(last)
    served = folder / "export"
    served.rename(tmp_path / "export")
    aipcore.resume(between, quiet=True)
    resumed = variables(last)
    assert whole.keys() == resumed.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)
    changed = {name for name in whole if (first[name] != whole[name]).any() and "seed_generator" not in name}
    adapted = {name.rpartition("/")[2] for name in changed if name.startswith("backbone/")}
    assert adapted == {"lora_kernel_a", "lora_kernel_b", "bias"}
    again = aipcore.Trainer.from_scenario("text_classification", {**params, "warmstart.model": str(last)}, quiet=True)
    model, some = again.engine.graph.model, texts()[0][:4]
    assert model.get_layer("backbone").compute_dtype == "bfloat16"
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            np.testing.assert_array_equal(variable.numpy(), whole[variable.path], err_msg=variable.path)
    expected = model(dict(again.scenario.preprocessing()(np.array(some))), training=False)["class"].numpy()
    serve = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    np.testing.assert_allclose(serve(inputs=tf.constant(some))["class"].numpy(), expected, atol=1e-5)


# KerasHub does not close the file of a SentencePiece model.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_sentence_piece(hub: Any, make_trainer: Any, tmp_path: Path) -> None:
    """The recorded preprocessing returns the tokens of KerasHub's tokenizer in Python."""
    import sentencepiece
    from aip_plugins.scenarios.text_classification.scenario import TextClassification

    models, folder, given = hub.models, str(tmp_path / "preset"), texts()[0]
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(given), model_writer=proto, vocab_size=99, minloglevel=2, pad_id=0, unk_id=1,
        bos_id=2, eos_id=3, pad_piece="<pad>", unk_piece="<unk>", bos_piece="[CLS]", eos_piece="[SEP]",
        user_defined_symbols="[MASK]",
    )  # fmt: skip
    tokenizer = models.AlbertTokenizer(proto.getvalue())
    backbone = models.AlbertBackbone(tokenizer.vocabulary_size(), 1, 2, 8, 8, 16, max_sequence_length=LENGTH)
    backbone.save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    expected = models.TextClassifierPreprocessor.from_preset(folder, sequence_length=LENGTH)(given)
    words = ("--train.lists", train_file(tmp_path), "--data.classes", "account", "delivery", "payment", "returns")
    trainer = make_trainer(TextClassification, *TEXT, "--model.graph.preset", folder, *words)
    found = trainer.data.preprocessing.on_host({"": np.array(given, object)})
    assert found.keys() == expected.keys()
    for name, tokens in found.items():
        np.testing.assert_array_equal(tokens, np.asarray(expected[name]), err_msg=name)


@pytest.mark.slow
def test_recomputed_dropout(hub: Any) -> None:
    """The backward pass of recomputed blocks has the dropout masks of the forward pass, and so the same gradients."""
    import keras
    import tensorflow as tf
    from aip_plugins.scenarios.pretrained.networks import checkpoint_blocks

    found = []
    for recomputed in (False, True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model = hub.models.BertBackbone(20, 1, 2, 8, 16, dropout=0.5, max_sequence_length=LENGTH)
        if recomputed:
            checkpoint_blocks(model)
        tokens = np.arange(10, dtype=np.int32).reshape(2, 5)
        inputs = {"token_ids": tokens, "segment_ids": tokens * 0, "padding_mask": tokens * 0 + 1}

        @tf.function(autograph=False)
        def gradients(inputs: Any, model: Any = model) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(inputs, training=True)["pooled_output"] ** 2)
            weights = [each.value for each in model.get_layer("transformer_layer_0").trainable_variables]
            return loss, tape.gradient(loss, weights), [each.value for each in model.non_trainable_variables]

        found.append(tf.nest.flatten(gradients({name: tf.constant(each) for name, each in inputs.items()})))
    for kept, again in zip(*found, strict=True):
        np.testing.assert_array_equal(kept, again)


def test_recomputed_statistics() -> None:
    """The statistics of batch normalization in recomputed blocks move once in a step."""
    import keras
    import tensorflow as tf
    from aip_plugins.scenarios.pretrained.networks import checkpoint_blocks

    class Block(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norm = keras.layers.BatchNormalization(momentum=0.75)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.norm(inputs, training=training)

    given = keras.Input((2,))
    model = keras.Model(given, Block()(given))
    checkpoint_blocks(model)
    rows = tf.constant(np.random.default_rng(1).normal(3, 2, (8, 2)), tf.float32)

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(rows, training=True) ** 2)
        return tape.gradient(loss, [each.value for each in model.trainable_variables])

    step()
    mean, variance = (each.numpy() for each in model.non_trainable_variables)
    np.testing.assert_allclose(mean, 0.25 * rows.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * rows.numpy().var(0), rtol=1e-5)


IMAGES = ("--data.height", "32", "--data.width", "32", "--data.classes", *"0123456789", "--trainer.tune", "off")


def batch_of(trainer: Any) -> tuple[Any, Any]:
    """Return images, float32 [8, 32, 32, 1], and the outputs of the model for them."""
    images = np.random.default_rng(1).random((8, 32, 32, 1)).astype(np.float32)
    return images, trainer.engine.graph.model({"image": images}, training=False)["class"].numpy()


@pytest.mark.slow
def test_weights_of_an_application(
    make_trainer: Any, tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone has the weights of a file, and takes pixels as Keras' own preprocessing of the network does.

    Without a network, the weights of Keras are refused.
    """
    import keras
    from aip_plugins.scenarios.image_classification.scenario import ImageClassification
    from aip_plugins.scenarios.pretrained.networks import application_logits

    module = keras.applications.mobilenet
    network = module.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    network.save_weights(tmp_path / "own.weights.h5")
    trainer = make_trainer(
        ImageClassification, *IMAGES, "--model.graph", "Application", "--model.graph.network", "MobileNet",
        "--model.graph.weights", str(tmp_path / "own.weights.h5"), "--trainer.rates", "backbone=0",
    )  # fmt: skip
    images, found = batch_of(trainer)
    features = network(module.preprocess_input(np.repeat(images * 255, 3, -1)), training=False).numpy().mean((1, 2))
    kernel, bias = trainer.engine.graph.model.get_layer("classes").get_weights()
    np.testing.assert_allclose(found, features @ kernel + bias, atol=1e-4)

    def offline(name: str, origin: str, **arguments: Any) -> None:
        raise OSError(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr(sys.modules[module.MobileNet.__module__].file_utils, "get_file", offline)
    with refused(UsageError):
        application_logits(keras.Input((224, 224, 1)), Application(network="MobileNet"), 2)
    with refused(UsageError):
        application_logits(keras.Input((8, 8, 1)), Application(network="MobileNet"), 2)


@pytest.mark.slow
def test_images_of_a_preset(hub: Any, make_trainer: Any, tmp_path: Path) -> None:
    """The logits are those of KerasHub's own classifier with its preprocessing."""
    import keras
    from aip_plugins.scenarios.image_classification.scenario import ImageClassification

    models = hub.models
    keras.utils.set_random_seed(4)
    backbone = models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    folder = str(tmp_path / "vit")
    backbone.save_to_preset(folder)
    scale, offset = [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0]
    hub.layers.ViTImageConverter(image_size=(32, 32), scale=scale, offset=offset).save_to_preset(folder)
    task = models.ImageClassifier.from_preset(folder, num_classes=10)
    words = (*IMAGES, "--model.graph", "KerasHub", "--model.graph.preset", folder)
    trainer = make_trainer(ImageClassification, *words)
    images, found = batch_of(trainer)
    task.set_weights(trainer.engine.graph.model.get_weights())
    expected = task.predict(np.repeat(images * 255, 3, -1), verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("network", ["MobileNetv2", "preprocess"])
def test_unknown_networks_are_refused(network: str, refused: Any) -> None:
    """The nearest network is named."""
    import keras
    from aip_plugins.scenarios.pretrained.networks import application_logits

    with refused(UsageError):
        application_logits(keras.Input((32, 32, 3)), Application(network=network), 2)
