"""The studies of VGG-SS and Flickr-SoundNet, whole: real lists, a server that fails, small videos, few steps.

What the lists name is served by a loopback server, or lies in an archive as the publisher packs it.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsl_data.decode import ffmpeg_executable
from avsl_data.ids import hash_of, start_of, video_id_of
from avsl_data.ledger import read_ledger
from avsl_data.sources import flickr_soundnet, vggsound, vggss
from avsl_data.sources.source import Inputs
from avsl_data.split_files import read_subset
from tests.data.faulty_site import LASTING, OK, FaultySite, serving
from tests.workflow.conftest import Snakemake, run_snakemake

LATEST_START_S = 30
CLIP_S = 10
ANNOTATED, UNLABELED = 150, 100
FLICKR_PICTURES, FLICKR_VIDEOS = 150, 60
FAULTS = ("gone", "forb", "mute", "busy", "torn", "type")
"""What happens at one video in eleven each: the first three for good, the others once."""

MAX_RUNS = 6
TINY: dict[str, Any] = {
    "model": {"visual": "tiny", "audio": "tiny", "dim": 16, "weights": None},
    "data": {"frame_size": 64, "image_size": 56, "frontend": "logmel", "hop": 400},
    "optim": {"steps": 3, "batch_labeled": 4, "batch_unlabeled": 4},
}
STUDY: dict[str, Any] = {
    "seeds": [0],
    "protocols": ["fixed"],
    "report_experiments": ["xpl"],
    "download": {"attempts": 2, "backoff": 0.05, "timeout": 1},
}


def kind_of(video_id: str) -> str:
    """Return what happens at a video id, by its hash."""
    draw = hash_of("fault", video_id) % 11
    return FAULTS[draw] if draw < len(FAULTS) else OK


def reason_of(video_id: str) -> str | None:
    """Return the failure class that a clip of a video must have; None if it must be there."""
    return LASTING.get(kind_of(video_id))


@pytest.fixture(scope="module")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function that renders the videos behind all addresses, of some seconds."""

    def make(seconds: int) -> Path:
        folder = tmp_path_factory.mktemp("site")
        sources = ("-f", "lavfi", "-i", f"testsrc2=s=96x64:r=10:d={seconds}")
        sound = ("-f", "lavfi", "-i", f"sine=f=440:r=16000:d={seconds}")
        codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
        ffmpeg = (ffmpeg_executable(), "-v", "error")
        subprocess.run([*ffmpeg, *sources, *sound, *codecs, str(folder / "good.mp4")], check=True)
        mute = ("-i", str(folder / "good.mp4"), "-c", "copy", "-an", str(folder / "mute.mp4"))
        subprocess.run([*ffmpeg, *mute], check=True)
        return folder

    return make


@pytest.fixture
def study(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Snakemake]:
    """Return a function that writes a configuration and returns snakemake with it."""
    monkeypatch.setenv("AVSL_CACHE", str(tmp_path / "cache"))

    def prepare(config: dict[str, Any]) -> Snakemake:
        path = tmp_path / "study.json"
        path.write_text(json.dumps({**STUDY, **config}))
        return partial(run_snakemake, repository, tmp_path, "--configfile", str(path), "--cores", "2")

    return prepare


def run_until_done(run: Snakemake, *target: str) -> list[str]:
    """Run the same command until it succeeds; return what the refused runs said."""
    refused = []
    for _ in range(MAX_RUNS):
        done = run(*target)
        output = done.stdout + done.stderr
        if not done.returncode:
            return refused
        assert "avsl-data: stopped: " in output, output
        assert "The same command continues after " in output or "asked for a pause" in output
        refused.append(output)
        time.sleep(1.1)  # what the server asks for
    raise AssertionError("\n".join(refused))


def ledger_of(folder: Path, dataset: str) -> dict[str, str | None]:
    """Return the failure class of each clip of a data set."""
    return {
        row.clip_id: row.reason
        for path in sorted((folder / "data" / dataset / "ledger").glob("*.parquet"))
        for row in read_ledger(path)
    }


def scores_of(folder: Path, experiment: str, testset: str) -> dict[str, Any]:
    """Return the scores of a result under the study's one protocol."""
    path = folder / "results" / f"{experiment}_{testset}" / "seed0" / "test.json"
    (protocol,) = STUDY["protocols"]
    scores: dict[str, Any] = json.loads(path.read_text())["protocols"][protocol]
    return scores


@pytest.mark.xdist_group("VGG-SS")
def test_vggss(tmp_path: Path, shared: Path, make_site: Callable[[int], Path], study: Any) -> None:
    mirror = shared / "mirror"
    ids: dict[str, list[str]] = {}
    for source, count in ((vggss, ANNOTATED), (vggsound, UNLABELED)):
        listed = [clip.clip_id for clip in source.catalog(Inputs(mirror=mirror))]
        ids[source.NAME] = [clip_id for clip_id in listed if start_of(clip_id) <= LATEST_START_S][:count]
    (tmp_path / "pilot.txt").write_text("\n".join(ids["vggss"] + ids["vggsound"]))
    with serving(make_site(LATEST_START_S + CLIP_S), FaultySite(refuse_every=140, kind_of=kind_of)) as site:
        place = {
            "only": str(tmp_path / "pilot.txt"),
            "buckets": 2,
            "video_url": f"{site.base_url}/videos/{{video_id}}.mp4",
        }
        run = study(
            {
                "mirror": str(mirror),
                "datasets": {"vggss": place, "vggsound": place},
                "trainsets": {
                    "vggss": {"threads": 1, "mem_mb": 1500, "split": {"recipe": "by-hash"}, "recipe": TINY}
                },
            }
        )
        refused = run_until_done(run, "results/xpl_vggss.json", "--resources", "network=2")
    assert refused
    for name, wanted in ids.items():
        assert ledger_of(tmp_path, name) == {clip_id: reason_of(video_id_of(clip_id)) for clip_id in wanted}
    test = read_subset(tmp_path / "data/vggss/splits/by-hash.parquet", "test")
    there = [clip_id for clip_id in test if reason_of(video_id_of(clip_id)) is None]
    scores = scores_of(tmp_path, "xpl", "vggss")
    assert (scores["n_expected"], scores["n_scored"]) == (len(test), len(there))
    assert 0 < len(there) < len(test)
    assert (tmp_path / "results/xpl_vggss.json").is_file()
    # Nobody asks again for what is settled.
    asked = len(site.requests)
    again = run("results/xpl_vggss.json")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert len(site.requests) == asked


def _archive(folder: Path, ids: list[str], with_media: list[str]) -> tuple[Path, Path]:
    """Write Flickr-SoundNet's archive: boxes for all videos, a picture and a sound for some."""
    annotations = folder / "Annotations"
    annotations.mkdir(parents=True)
    box = "<bbox><name>source</name><xmin>{0}</xmin><ymin>{0}</ymin><xmax>{1}</xmax><ymax>{1}</ymax></bbox>"
    for number, clip_id in enumerate(ids):
        annotators = "".join(
            f"<annotator>{box.format(10 + shift + number % 50, 150 + shift)}</annotator>"
            for shift in (0, 4, 8)
        )
        (annotations / f"{clip_id}.xml").write_text(f"<annotation>{annotators}</annotation>")
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * 16000) / 16000)
    soundfile.write(folder / "sound.wav", samples, 16000)
    for number in range(10):
        Image.fromarray(np.full((64, 96, 3), 25 * number, np.uint8)).save(folder / f"{number}.jpg")
    with tarfile.open(folder / "Flickr.tar.gz", "w:gz") as tar:
        for number, clip_id in enumerate(with_media):
            tar.add(folder / f"{number % 10}.jpg", f"Flickr/Data/{number % 10}/{clip_id}.jpg")
            tar.add(folder / "sound.wav", f"Flickr/Data/{number % 10}/{clip_id}.wav")
    return folder / "Flickr.tar.gz", annotations


@pytest.mark.xdist_group("Flickr")
def test_flickr(tmp_path: Path, shared: Path, make_site: Callable[[int], Path], study: Any) -> None:
    mirror = shared / "mirror"
    annotated = list(dict.fromkeys(flickr_soundnet.read_ids("flickr-5k@ssltie", mirror).to_pylist()))
    test = sorted(set(flickr_soundnet.read_ids("flickr@slavc", mirror).to_pylist()))
    unlabeled = flickr_soundnet.read_ids("flickr_144k@ezvsl", mirror).to_pylist()
    media = (
        test[: FLICKR_PICTURES // 3]
        + [clip_id for clip_id in annotated if clip_id not in test][: FLICKR_PICTURES * 2 // 3]
    )
    archive, annotations = _archive(tmp_path / "archive", annotated, media)
    with serving(make_site(4), FaultySite(refuse_every=50, kind_of=kind_of)) as site:
        (tmp_path / "urls_public.txt").write_text(
            "".join(f"{site.base_url}/{video_id}/play/orig/x\n" for video_id in unlabeled)
        )
        run = study(
            {
                "mirror": str(mirror),
                "datasets": {
                    "flickr": {
                        "annotations": str(annotations),
                        "archives": [str(archive)],
                        "buckets": 2,
                        "short_side": 64,
                    },
                    "flickr144k": {
                        "only": FLICKR_VIDEOS,
                        "urls": str(tmp_path / "urls_public.txt"),
                        "buckets": 2,
                        "short_side": 64,
                    },
                },
                "trainsets": {"flickr": {"threads": 1, "mem_mb": 1500, "recipe": TINY}},
            }
        )
        refused = run_until_done(run, "results/xpl_flickr.json")
    assert refused
    found = ledger_of(tmp_path, "flickr")
    assert sorted(found) == sorted(annotated)
    assert {clip_id for clip_id, reason in found.items() if reason is None} == set(media)
    assert set(found.values()) == {None, "missing"}
    videos = ledger_of(tmp_path, "flickr144k")
    assert videos == {video_id: reason_of(video_id) for video_id in videos}
    assert len(videos) == FLICKR_VIDEOS
    assert Counter(videos.values())[None] > FLICKR_VIDEOS // 2
    scores = scores_of(tmp_path, "xpl", "flickr")
    assert (scores["n_expected"], scores["n_scored"]) == (250, FLICKR_PICTURES // 3)
