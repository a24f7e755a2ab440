"""Columns of shards as `datasets` describes them; written out, because its import takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from avsl_data import schema


def huggingface_features(sample_rate: int, names: Iterable[str] | None = None) -> bytes:
    """Describe the shard columns to `datasets`.

    Parameters
    ----------
    sample_rate
        Samples per second of the stored sounds.
    names
        The columns; all but the optional one by default.

    Returns
    -------
    bytes
        JSON for the schema metadata key ``huggingface``.

    Notes
    -----
    Written out rather than made by `datasets`, whose import takes seconds; a test compares the two.
    """
    features = features_of(names or schema.SHARD.columns.names, sample_rate)
    return json.dumps({"info": {"features": features}}).encode()


def features_of(names: Iterable[str], sample_rate: int) -> dict[str, Any]:
    """Describe some shard columns to `datasets`.

    Parameters
    ----------
    names
        The columns.
    sample_rate
        Samples per second of the stored sounds.

    Returns
    -------
    dict
        The feature of each column, as `datasets` writes it.
    """
    columns = schema.shard_format(flow=True).columns
    features = {name: _feature(columns.field(name).type) for name in names}
    if "audio" in features:
        features["audio"] = {"sampling_rate": sample_rate, "_type": "Audio"}
    return features


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """Return the feature of a column's type; a file in a struct is taken for a picture."""
    if kind == schema.BLOB:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    # Of the types' own names only one is another one than that of `datasets`. A flow is bytes and no Image:
    # Pillow would open its PNG as a picture of 8 bits.
    return {"dtype": "float32" if kind == pa.float32() else str(kind), "_type": "Value"}
