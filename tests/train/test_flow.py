"""Optical flow in views: values, geometry, and a training on shards that hold it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from avsl_data.flow import encode_flow
from avsl_train.augment import Geometry, identity
from avsl_train.config import DataConfig
from avsl_train.data import Clips, ClipSet
from avsl_train.draws import Draws
from avsl_train.errors import TrainInputError
from avsl_train.flow import FlowView, FlowViewer
from avsl_train.methods.htf import HTF
from avsl_train.methods.method import Batch
from avsl_train.predict import predict
from tests.train.conftest import BASE, CPU, ROW_TYPES, make_clips, make_config, make_method, scene

DATA = DataConfig(frame_size=16, image_size=16, clip_s=1.0, audio_s=0.5, frontend="logmel", mels=16)
HTF_ON_A_LOCALIZER = {"name": "htf", "network": "localizer"}


def flow_of(number: int, side: int = 16) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a flow [side, side, 2] whose left half moves to the right and whose right half moves up."""
    flow = np.zeros((side, side, 2), np.float32)
    flow[:, : side // 2, 0], flow[:, side // 2 :, 1] = 20.0 + number, -10.0
    return flow


def clips_of(n: int) -> Clips:
    flow = torch.stack([torch.from_numpy(flow_of(number)).permute(2, 0, 1) for number in range(n)])
    return dataclasses.replace(make_clips(n, DATA), flow=flow)


def seen(view: FlowView) -> torch.Tensor:
    assert view.flow is not None
    return view.flow


def test_the_flow_of_a_view_is_mirrored_and_cropped_with_its_frame() -> None:
    viewer, clips = FlowViewer(DATA, CPU), clips_of(1)
    plain = seen(viewer.placed(clips, identity(1)))
    mirrored = seen(viewer.placed(clips, Geometry(identity(1).box, torch.tensor([True]))))
    right = seen(viewer.placed(clips, Geometry(torch.tensor([[0.5, 0, 1, 1]]), torch.tensor([False]))))
    torch.testing.assert_close(plain[0, 0, :, :7], torch.full((16, 7), 20 / 255))
    torch.testing.assert_close(mirrored[0, 0], -plain[0, 0].flip(1))  # what went right goes left
    torch.testing.assert_close(mirrored[0, 1], plain[0, 1].flip(1))
    torch.testing.assert_close(right[0, 1, :, 2:], torch.full((16, 14), -10 / 255))


def test_published_flow_knows_no_left_no_up_and_no_mirror() -> None:
    viewer, clips = FlowViewer(DATA, CPU, published=True), clips_of(1)
    even = dataclasses.replace(clips, flow=torch.full((1, 2, 16, 16), 2.6))
    mirrored = seen(viewer.placed(even, Geometry(identity(1).box, torch.tensor([True]))))
    torch.testing.assert_close(mirrored, torch.full((1, 2, 16, 16), 3 / 255))
    assert seen(viewer.plain(clips)).min() == 0


def test_every_view_has_its_flow() -> None:
    view = FlowViewer(DATA, CPU).cropped(clips_of(3), Draws(0, "a"))
    assert isinstance(view, FlowView)
    assert seen(view).shape == (3, 2, 16, 16)


def test_a_view_needs_clips_with_flow() -> None:
    clips = dataclasses.replace(clips_of(1), flow=None)
    with pytest.raises(TrainInputError, match=r"no optical flow: set data\.flow to true.* preprocess --flow"):
        FlowViewer(DATA, CPU).plain(clips)


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., Path]:
    """Write four clips with flow, and one that is its video's last picture."""

    def write() -> Path:
        further = [pa.field("notes", pa.list_(pa.string())), pa.field("flow", pa.binary())]
        columns = pa.schema([*ROW_TYPES, *further])
        rows = [{**scene(n), "notes": [], "flow": encode_flow(flow_of(n, 44))} for n in range(5)]
        rows[4] |= {"notes": ["no_flow"], "flow": None}
        pq.write_table(pa.Table.from_pylist(rows, columns), tmp_path / "0000.parquet", row_group_size=2)
        return tmp_path

    return write


def test_a_training_and_a_prediction_read_flow_from_shards(shards: Callable[..., Path]) -> None:
    config = make_config(HTF_ON_A_LOCALIZER)
    method = make_method(config)
    assert isinstance(method, HTF)
    ids = [scene(number)["clip_id"] for number in range(5)]
    clips = ClipSet([shards()], ids, config.data)
    assert clips.excluded == {ids[4]: "no optical flow"}
    loss = method.losses(Batch(clips.batch(torch.arange(4)), 0), 0)["trimap"]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.models["a"].flow.parameters())  # type: ignore[union-attr]
    maps, _ = predict(method, clips)
    assert maps.shape == (4, 8, 8)
    still = ClipSet([shards()], ids, config.data)
    assert still._cached is not None
    assert still._cached.flow is not None
    still._cached.flow.zero_()
    assert not np.allclose(predict(method, still)[0], maps)  # the map depends on the flow


def test_a_view_of_another_viewer_has_none() -> None:
    method = make_method(make_config(HTF_ON_A_LOCALIZER))
    other = make_method(make_config("supervised"))
    view = other.viewer.plain(make_clips(2, DataConfig(**BASE["data"])))
    with pytest.raises(ValueError, match="a view without optical flow"):
        method.localize(view)
