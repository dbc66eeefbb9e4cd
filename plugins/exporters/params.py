"""Parameters of the shipped exporters."""

from __future__ import annotations

from aipcore.hooks.kinds import ExporterParams
from aipcore.params import params


@params
class SavedModelParams(ExporterParams):
    """Writes `saved_model.pb` and `variables/`; the signature `serving_default` takes and returns named tensors."""


@params
class KerasParams(ExporterParams):
    """Writes `model.keras`; loading it needs the classes of the model's own layers, if it has any."""
