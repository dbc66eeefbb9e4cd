"""Built-in writers of predictions."""

from __future__ import annotations

from aipcore.plugin import WriterRecord, hookimpl


@hookimpl
def aip_writers() -> list[WriterRecord]:
    """Return the writers of this package."""
    return [
        WriterRecord(
            name="CSV",
            summary="CSV file (.csv) with a row for each sample and a column for each output.",
            suffix=".csv",
            build="aip_plugins.writers.text:write_csv",
        ),
        WriterRecord(
            name="JSONLines",
            summary="JSON Lines file (.jsonl) with one object for each sample.",
            suffix=".jsonl",
            build="aip_plugins.writers.text:write_json_lines",
        ),
        WriterRecord(
            name="NPZ",
            summary="NumPy file (.npz) with all outputs and, with --targets, the targets.",
            suffix=".npz",
            targets=True,
            build="aip_plugins.writers.stored:write",
        ),
        WriterRecord(
            name="Parquet",
            summary="Parquet file (.parquet) with all outputs and, with --targets, the targets.",
            suffix=".parquet",
            targets=True,
            packages=("pyarrow",),
            install="aipcore[parquet]",
            build="aip_plugins.writers.stored:write",
        ),
    ]
