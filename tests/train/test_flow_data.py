"""Optical flow of clips: what `avsl-data preprocess --flow` stores is what a training loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from avsl_data.flow import decode_flow, encode_flow
from avsl_train import stored_flow
from avsl_train.config import DataConfig
from avsl_train.data import Clips, ClipSet
from avsl_train.errors import TrainInputError
from tests.train.conftest import BASE, FLOW_ROW_TYPES, ROW_TYPES, make_config, make_row, scene

CONFIG = DataConfig(**{**BASE["data"], "flow": True})
FIELDS = arrays(np.float32, (5, 7, 2), elements=st.floats(-500, 500, width=32))


def field_of(number: int) -> Any:
    """Return a flow that moves by (number + 1, -number) pixels everywhere."""
    return np.full((44, 60, 2), (number + 1, -number), np.float32)


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., Path]:
    """Write scenes 0 to 4 with flow, the fourth of which has none, and one that failed, in some layout."""

    def write(**layout: Any) -> Path:
        rows = [{**scene(n), "notes": [], "flow": encode_flow(field_of(n))} for n in range(5)]
        rows[3] |= {"notes": ["no_flow"], "flow": None}
        rows.append({**make_row("broken00000_000000", reason="truncated"), "notes": None, "flow": None})
        folder = tmp_path / "flowing"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, FLOW_ROW_TYPES), folder / "0000.parquet", **layout)
        return folder

    return write


def ids(*numbers: int) -> list[str]:
    return [scene(number)["clip_id"] for number in numbers]


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"compression": "none", "use_dictionary": False, "row_group_size": 2, "write_page_checksum": True},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("cache", "workers"), [(True, 0), (False, 0), (False, 1)])
def test_clips_have_their_flow_in_any_layout(
    layout: dict[str, Any], cache: bool, workers: int, shards: Callable[..., Path]
) -> None:
    config = CONFIG.model_copy(update={"cache": cache, "workers": workers})
    clips = ClipSet([shards(**layout)], ids(4, 0, 2), config)
    (batch,) = clips.in_order(3)
    clips.close()
    assert batch.flow is not None
    assert batch.flow.shape == (3, 2, 40, 40)
    assert batch.flow.dtype == torch.float32
    assert batch.flow.mean((2, 3)).tolist() == [[5, -4], [1, 0], [3, -2]]  # in pixels, whatever the size


def test_a_clip_without_flow_is_left_out_and_says_why(shards: Callable[..., Path]) -> None:
    wanted = [*ids(2, 3, 4), "broken00000_000000"]
    clips = ClipSet([shards()], wanted, CONFIG)
    assert clips.ids == ids(2, 4)
    assert clips.excluded == {wanted[1]: "no optical flow", wanted[3]: "truncated"}
    plain = ClipSet([shards()], wanted, CONFIG.model_copy(update={"flow": False}))
    assert plain.ids == ids(2, 3, 4)
    assert plain[0].flow is None


def test_shards_without_flow_are_an_error_that_names_the_option(
    shards: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.Table.from_pylist([scene(9)], ROW_TYPES), tmp_path / "plain" / "0000.parquet")
    message = r"plain/0000\.parquet has no optical flow, which data\.flow asks for: .* preprocess --flow`"
    with pytest.raises(TrainInputError, match=message):
        ClipSet([shards(), tmp_path / "plain"], ids(0, 9), CONFIG)
    assert len(ClipSet([shards(), tmp_path / "plain"], ids(0, 1), CONFIG)) == 2  # nothing of it is used


def test_a_flow_that_is_none_is_told_by_its_clip(tmp_path: Path) -> None:
    row = {**scene(0), "notes": [], "flow": b"no picture"}
    pq.write_table(pa.Table.from_pylist([row], FLOW_ROW_TYPES), tmp_path / "0000.parquet")
    with pytest.raises(TrainInputError, match=rf"clip {row['clip_id']} cannot be decoded"):
        ClipSet([tmp_path], ids(0), CONFIG)
    eight_bits = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(RuntimeError, match="no PNG of three channels of 16 bits"):
        stored_flow.decoded(eight_bits)


def test_batches_keep_flow_only_where_all_have_it(shards: Callable[..., Path]) -> None:
    clips = ClipSet([shards()], ids(0, 1, 2), CONFIG)
    one, two = clips.batch(torch.tensor([0])), clips.batch(torch.tensor([2, 1]))
    joined = Clips.join([one, two])
    assert joined.flow is not None
    assert joined.flow[:, 0].mean((1, 2)).tolist() == [1, 3, 2]
    chosen = joined[torch.tensor([2])].flow
    assert chosen is not None
    assert chosen[:, 0].mean().item() == 2
    assert Clips.join([one, dataclasses.replace(two, flow=None)]).flow is None


@given(FIELDS)
def test_both_decoders_read_the_same(flow: Any) -> None:
    """OpenCV's, of the package that writes the files, and torchvision's, which training has anyway."""
    content = encode_flow(flow)
    assert np.array_equal(stored_flow.decoded(content).permute(1, 2, 0).numpy(), decode_flow(content))


def test_resizing_resamples_the_field_and_leaves_its_values() -> None:
    """The left half moves by 8 pixels, the right one by -2: so it does at any size."""
    flow = torch.zeros(2, 60, 80)
    flow[0, :, :40], flow[0, :, 40:] = 8.0, -2.0
    for size in (20, 40, 200):
        small = stored_flow.resized(flow, size)
        assert small.shape == (2, size, size)
        assert small[0, :, : size // 2 - 3].aminmax() == pytest.approx((8.0, 8.0))
        assert small[0, :, size // 2 + 3 :].aminmax() == pytest.approx((-2.0, -2.0))


def test_whether_flow_is_loaded_is_no_part_of_what_a_training_is() -> None:
    plain, loaded = (make_config("supervised", data={"flow": flow}) for flow in (False, True))
    assert plain.digest() == loaded.digest()
