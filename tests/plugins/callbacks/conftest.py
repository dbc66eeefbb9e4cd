"""A small scenario, runs of it that stop and resume, and an HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.scenario import Scenario


def _points(samples: int, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, samples).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(3, 6))
    return (centres[labels] + generator.normal(size=(samples, 6))).astype(np.float32), labels


class Points(Scenario):
    """A scenario of noisy points around three centres, with dropout."""

    monitor = ("max", "accuracy")

    def train_data(self) -> Any:
        return _points(96, 1)

    def val_data(self) -> Any:
        return _points(32, 2)

    def build(self, inputs: Any) -> Any:
        from keras import layers

        hidden = layers.Dropout(0.2)(layers.Dense(8, activation="relu", name="hidden")(inputs))
        return layers.Dense(3, name="logits")(hidden)

    def losses(self) -> Any:
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


@pytest.fixture
def points() -> type[Points]:
    """The scenario."""
    return Points


@pytest.fixture
def run(make_trainer: Any) -> Callable[..., Any]:
    """Run `Points` with words of the command line in the folder `out`, resumed from `checkpoint` if given."""

    def run(*words: str, checkpoint: Path | None = None, cls: Any = Points, output: str = "out") -> Any:
        from aipcore.params import to_dict

        quick = {"--trainer.export_best": "False", "--trainer.export_final": "False", "--trainer.force_eager": "True"}
        more = [word for pair in quick.items() if pair[0] not in words for word in pair]
        recorded: dict[str, Any] = {}
        trainer = make_trainer(cls, *more, *words, output=output, about={"params": recorded})
        recorded.update(to_dict(trainer.params))
        if checkpoint is not None:
            trainer.restore(checkpoint)
        return trainer

    return run


class Server:
    """A server that keeps the JSON posted to it.

    Attributes:
        url: The address.
        told: The posted data, in order.
        status: The status of its responses.
        hold: If True, no request is answered until the server is closed.
    """

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 200
        self.hold = False
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                if outer.hold:
                    outer.closing.wait()
                    return
                outer.told.append({"path": self.path, **json.loads(body)})
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T0/SECRET"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        """Close the server."""
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Run an HTTP server on this machine."""
    made = Server()
    yield made
    made.close()
