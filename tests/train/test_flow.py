"""Optical flow from shards into views: values, geometry, errors."""

from __future__ import annotations

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
from avsl_train.data import Clips
from avsl_train.draws import Draws, key_of
from avsl_train.errors import TrainInputError
from avsl_train.flow import FlowShards, FlowViewer
from avsl_train.methods.htf import HTF
from avsl_train.methods.method import Batch
from tests.train.conftest import CPU, make_clips, make_config, make_method

DATA = DataConfig(frame_size=16, image_size=16, clip_s=1.0, audio_s=0.5, frontend="logmel", mels=16)
IDS = ["aaaaaaaaaaa_000000", "bbbbbbbbbbb_000000", "ccccccccccc_000000"]


def flow_of(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a flow [16, 16, 2] whose left half moves to the right and whose right half moves up."""
    flow = np.zeros((16, 16, 2), np.float32)
    flow[:, :8, 0], flow[:, 8:, 1] = 20.0 + number, -10.0
    return flow


def write(folder: Path, ids: list[str], column: str = "flow") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = [encode_flow(flow_of(IDS.index(clip_id))) for clip_id in ids]
    table = pa.table({"clip_id": ids, column: content})
    pq.write_table(table, folder / "0000.parquet", row_group_size=1)
    return folder


def clips_of(ids: list[str]) -> Clips:
    clips = make_clips(len(ids), DATA)
    return Clips(
        clips.index,
        clips.frames,
        clips.waves,
        clips.boxes,
        torch.tensor([key_of(clip_id) for clip_id in ids]),
    )


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "one", IDS[:2]), write(tmp_path / "two", IDS[2:])]


def test_every_clip_gets_its_own_flow(folders: list[Path]) -> None:
    found = FlowShards(folders, 16)(clips_of([IDS[2], IDS[0]]))
    for flow, number in zip(found, (2, 0), strict=True):
        torch.testing.assert_close(flow.permute(1, 2, 0), torch.from_numpy(flow_of(number)))


def test_a_flow_keeps_its_values_when_it_is_resized(folders: list[Path]) -> None:
    found = FlowShards(folders, 8)(clips_of(IDS[:1]))
    assert found.shape == (1, 2, 8, 8)
    assert found[0, 0, 4, 1].item() == pytest.approx(20)
    assert found[0, 1, 4, 6].item() == pytest.approx(-10)


def test_the_flow_of_a_view_is_mirrored_and_cropped_with_its_frame(folders: list[Path]) -> None:
    viewer = FlowViewer(DATA, CPU, FlowShards(folders, 16))
    clips = clips_of(IDS[:1])
    plain = viewer.placed(clips, identity(1)).flow
    mirrored = viewer.placed(clips, Geometry(identity(1).box, torch.tensor([True]))).flow
    right = viewer.placed(clips, Geometry(torch.tensor([[0.5, 0, 1, 1]]), torch.tensor([False]))).flow
    assert plain is not None
    assert mirrored is not None
    assert right is not None
    torch.testing.assert_close(plain[0, 0, :, :7], torch.full((16, 7), 20 / 255))
    torch.testing.assert_close(mirrored[0, 0], -plain[0, 0].flip(1))  # what went right goes left
    torch.testing.assert_close(mirrored[0, 1], plain[0, 1].flip(1))
    torch.testing.assert_close(right[0, 1, :, 2:], torch.full((16, 14), -10 / 255))


def test_published_flow_knows_no_left_no_up_and_no_mirror(folders: list[Path]) -> None:
    viewer = FlowViewer(DATA, CPU, lambda clips: torch.full((len(clips), 2, 16, 16), 2.6), published=True)
    mirrored = viewer.placed(clips_of(IDS[:1]), Geometry(identity(1).box, torch.tensor([True]))).flow
    assert mirrored is not None
    torch.testing.assert_close(mirrored, torch.full((1, 2, 16, 16), 3 / 255))
    viewer = FlowViewer(DATA, CPU, FlowShards(folders, 16), published=True)
    plain = viewer.plain(clips_of(IDS[:1])).flow
    assert plain is not None
    assert plain.min() == 0


def test_every_view_has_its_flow(folders: list[Path]) -> None:
    viewer = FlowViewer(DATA, CPU, FlowShards(folders, 16))
    view = viewer.cropped(clips_of(IDS), Draws(0, "a"))
    assert view.flow.shape == (3, 2, 16, 16)  # type: ignore[attr-defined]


def test_a_training_reads_its_flow_from_shards(folders: list[Path]) -> None:
    method = make_method(
        make_config(
            {"name": "htf", "network": "localizer", "flow": [str(folder) for folder in folders]},
            data={"frame_size": 16, "image_size": 16},
        )
    )
    assert isinstance(method, HTF)
    clips = clips_of(IDS)
    loss = method.losses(Batch(clips, 0), 0)["trimap"]
    assert loss.isfinite()
    with torch.no_grad():
        assert method.localize(method.viewer.plain(clips)).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match="a view without optical flow"):
        method.localize(
            make_method(make_config("supervised", data=method.config.data.model_dump())).viewer.plain(clips)
        )


def test_what_is_missing_is_one_clear_error(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(TrainInputError, match=r"method.flow: no shards \(\*.parquet\) in .*nowhere"):
        FlowShards([tmp_path / "nowhere"], 16)
    with pytest.raises(TrainInputError, match=r"0000.parquet holds no optical flow: .*preprocess --flow"):
        FlowShards([write(tmp_path / "three", IDS, column="frame")], 16)
    with pytest.raises(TrainInputError, match="is in none of the shards of"):
        FlowShards(folders[:1], 16)(clips_of(IDS))
    table = pa.table({"clip_id": IDS[:1], "flow": pa.array([None], pa.binary())})
    pq.write_table(table, tmp_path / "one/0000.parquet")
    with pytest.raises(TrainInputError, match=rf"clip {IDS[0]} has no optical flow"):
        FlowShards([tmp_path / "one"], 16)(clips_of(IDS[:1]))
