"""Render the demo's publisher: a folder of videos with a table of clips and their boxes.

``site.json`` appears last and says that the site is finished. While videos are being rendered,
``rendering.json`` holds the digest of what is being rendered: a run that was stopped goes on with the videos
that are there, and a run with another specification starts over.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from avsl_data.decode import AAC_ARGUMENTS, H264_ARGUMENTS, media_url, run_ffmpeg
from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.files import replacing, sha256_of, write_text
from avsl_data.ids import video_id_of
from avsl_data.progress import Progress
from avsl_data.sources import demo_render, demo_scenes
from avsl_data.sources.demo import BOXES_FILE, SITE_FILE, SITE_SCHEMA, TABLE_FILE, read_site
from avsl_data.sources.demo_render import render_video
from avsl_data.sources.demo_scenes import DemoSpec, DemoVideo, demo_videos
from avsl_data.workers import WorkerDiedError, in_order

VIDEO_FOLDER: Final = "videos"
RENDERING_FILE: Final = "rendering.json"

CONTAINER_ARGUMENTS: Final[dict[str, Any]] = {
    "format": "mp4",
    "movflags": "+faststart",
    "fflags": "+bitexact",
    "flags": "+bitexact",
    "map_metadata": -1,
}


def render_site(spec: DemoSpec, site: Path, workers: int = 1) -> bool:
    """Render a site, or finish one that was begun.

    Parameters
    ----------
    spec
        What to render.
    site
        Folder; made if absent.
    workers
        Processes that render videos side by side.

    Returns
    -------
    bool
        Whether anything was rendered; False if the finished site was already there.

    Raises
    ------
    DataInputError
        If the folder holds videos that are no site's.
    """
    digest = spec_digest(spec)
    if _finished(site, digest):
        return False
    videos = demo_videos(spec)
    _begin(site, digest)
    _render_missing(spec, videos, site, workers)
    write_text(site / TABLE_FILE, _table(videos))
    write_text(site / BOXES_FILE, _boxes(videos))
    about = {
        "schema": SITE_SCHEMA,
        "digest": digest,
        "spec": dataclasses.asdict(spec),
        "videos": {video.video_id: sha256_of(_video_path(site, video)) for video in videos},
    }
    write_text(site / SITE_FILE, json.dumps(about, indent=1) + "\n")
    (site / RENDERING_FILE).unlink()
    return True


def spec_digest(spec: DemoSpec) -> str:
    """Digest everything that a site's files depend on: the specification, the renderer and the encoder.

    Parameters
    ----------
    spec
        The specification.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    code = [sha256_of(Path(str(module.__file__))) for module in (demo_scenes, demo_render)]
    encoder = [H264_ARGUMENTS, AAC_ARGUMENTS, CONTAINER_ARGUMENTS]
    content = json.dumps([dataclasses.asdict(spec), code, encoder], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _finished(site: Path, digest: str) -> bool:
    if not (site / SITE_FILE).is_file():
        return False
    about = read_site(site)
    return about["digest"] == digest and all(
        (site / VIDEO_FOLDER / f"{video_id}.mp4").is_file() for video_id in about["videos"]
    )


def _begin(site: Path, digest: str) -> None:
    """Mark the folder as being rendered, and remove the videos of another specification."""
    folder = site / VIDEO_FOLDER
    found = list(folder.glob("*.mp4"))
    marks = [site / name for name in (RENDERING_FILE, SITE_FILE) if (site / name).is_file()]
    if found and not marks:
        raise DataInputError(
            f"{folder} holds videos that were not rendered here: give an empty folder as --out"
        )
    if not any(json.loads(mark.read_text(encoding="utf-8")).get("digest") == digest for mark in marks):
        for path in found:
            path.unlink()
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
    write_text(site / RENDERING_FILE, json.dumps({"digest": digest}) + "\n")
    (site / SITE_FILE).unlink(missing_ok=True)


def _render_missing(spec: DemoSpec, videos: list[DemoVideo], site: Path, workers: int) -> None:
    missing = [(video, path) for video in videos if not (path := _video_path(site, video)).is_file()]
    if not missing:
        return
    rendered = in_order(partial(_render_one, spec), missing, min(workers, len(missing)), workers)
    with Progress(len(missing), "render") as progress, closing(rendered):
        try:
            for _ in rendered:
                progress.step()
        except WorkerDiedError as error:
            raise StopEverythingError(
                f"a worker process was killed at {error.job[0].video_id}, perhaps for want of memory "
                "(--workers 1 needs less)"
            ) from error


def _video_path(site: Path, video: DemoVideo) -> Path:
    return site / VIDEO_FOLDER / f"{video.video_id}.mp4"


def _render_one(spec: DemoSpec, job: tuple[DemoVideo, Path]) -> None:
    video, path = job
    frames, samples, sample_rate = render_video(spec, video)
    write_video(path, frames, samples, sample_rate, spec.fps)


def write_video(path: Path, frames: Any, samples: Any, sample_rate: int, fps: int) -> None:
    """Encode frames and samples as H.264 and AAC in an mp4 file, the same bytes for the same input.

    Parameters
    ----------
    path
        The file.
    frames
        uint8 [T, H, W, 3], RGB.
    samples
        float32 [n], mono in [-1, 1].
    sample_rate
        Samples per second.
    fps
        Frames per second.
    """
    import ffmpeg

    height, width = frames.shape[1:3]
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.f32"
        samples.astype("<f4").tofile(sound)
        picture = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", video_size=(width, height), framerate=fps
        )
        tone = ffmpeg.input(media_url(sound), format="f32le", ar=sample_rate, ac=1)
        output = ffmpeg.output(
            picture.video,
            tone.audio,
            media_url(temporary),
            **H264_ARGUMENTS,
            **AAC_ARGUMENTS,
            **CONTAINER_ARGUMENTS,
        )
        run_ffmpeg(output, stdin=frames.tobytes())


def _table(videos: list[DemoVideo]) -> str:
    """Write the clips in vggsound.csv's format."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for video in videos:
        for scene in video.scenes:
            writer.writerow((video_id_of(scene.clip_id), scene.start_s, scene.label, video.official_split))
    return text.getvalue()


def _boxes(videos: list[DemoVideo]) -> str:
    """Write the boxes in VGG-SS's format."""
    entries = [
        {"file": scene.clip_id, "class": scene.label, "bbox": [list(box) for box in scene.boxes]}
        for video in videos
        for scene in video.scenes
    ]
    return json.dumps(entries)
