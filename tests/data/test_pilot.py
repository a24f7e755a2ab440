"""A pilot is a part of the set that a larger pilot holds as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from avsl_data.__main__ import main
from avsl_data.catalog import read_catalog
from avsl_data.errors import DataInputError
from avsl_data.ids import hash_of
from avsl_data.pilot import pilot
from avsl_data.sources.source import CatalogClip

CLIPS = [
    CatalogClip(f"v{video:010d}_{start:06d}", f"v{video:010d}", "https://a.org/x", 0.0, 1.0, "", "train")
    for video in range(40)
    for start in (0, 10)
]


def test_a_number_takes_the_smallest_hashes() -> None:
    order = sorted(CLIPS, key=lambda clip: (hash_of(clip.video_id), clip.clip_id))
    for count in (1, 7, 80):
        found = list(pilot(CLIPS, str(count)))
        assert found == sorted(order[:count], key=lambda clip: clip.clip_id)


def test_a_file_keeps_what_it_names(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("v0000000003_10000_20000\r\nv0000000001,0\nn88E2blrCiU_000185\n")
    assert [clip.clip_id for clip in pilot(CLIPS, str(ids))] == ["v0000000001_000000", "v0000000003_000010"]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("0", r"--only 0 is not in 1\.\.80"),
        ("81", r"--only 81 is not in 1\.\.80"),
        ("-3", "neither a number nor a file"),
        ("absent.txt", "neither a number nor a file"),
        ("other.txt", "names no clip of this set"),
    ],
)
def test_nonsense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text("n88E2blrCiU_000185\n")
    with pytest.raises(DataInputError, match=message):
        pilot(CLIPS, only)


def test_a_pilot_of_the_published_set(tmp_path: Path, shared: Path) -> None:
    out = tmp_path / "catalog.parquet"
    command = ["catalog", "vggss", "--mirror", str(shared / "mirror"), "--buckets", "2", "--out", str(out)]
    assert main([*command, "--only", "200"]) == 0
    small = {clip.clip_id for clip in read_catalog(out)}
    assert main([*command, "--only", "400"]) == 0
    assert len(small) == 200
    assert small < {clip.clip_id for clip in read_catalog(out)}
