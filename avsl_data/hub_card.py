"""The dataset card, README.md: what is in the folder, how it was made, what is missing, and whose it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from avsl_data.hub import EXCLUSIONS, HubConfig, HubContents
from avsl_data.notes import NOTES
from avsl_data.presets import PRESETS
from avsl_data.schema import FLOW

UNKNOWN: Final = "unknown"
UPLOADERS: Final = "belong to their uploaders"
"""What a source's licence says of videos that may not be passed on."""

SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

LOADING: Final = """\
```python
from datasets import Audio, load_dataset

data = load_dataset("{place}", "{config}", split="{split}")  # streaming=True works too
data = data.cast_column("audio", Audio(decode=False))  # leave this out if torchcodec is installed
row = data[0]
row["frame"]  # a PIL image
row["boxes"]  # [[x0, y0, x1, y1], ...], fractions of width and height
data.features["label"].int2str(row["label"])

import io, soundfile
samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
```"""

COLUMNS: Final = {
    "clip_id, video_id": "`<video id>_<start in seconds, six digits>`, and the video",
    "label": "class of the sound, a ClassLabel; null: not known",
    "frame": "the picture, JPEG",
    "frames, frames_at_s": "further pictures and their times in seconds, if any were made",
    "flow": "optical flow to the next picture, a PNG of 16 bits in KITTI's format: x = (red - 32768) / 64, "
    "y = (green - 32768) / 64, in pixels of the video; null: there is no next picture",
    "audio": "the sound, mono, FLAC",
    "boxes": "**xyxy** (left, top, right, bottom) as fractions of width and height, not COCO's xywh; "
    "null: not annotated, empty: nothing usable is annotated",
    "width, height": "of the picture in pixels",
    "frame_time_s, frame_begins_s": "time asked for, and when that picture begins, in seconds",
    "audio_from_s, audio_s, rms_db": "begin and length of the stored sound, loudness in dB of full scale",
    "status, reason, detail": "whether frame and sound could be made, and why not",
    "notes": "what is peculiar about the file, see below",
    "source": "facts of the file that the clip was read from",
}


MEDIA: Final = ("frame", "frames, frames_at_s", FLOW, "audio")
STATUS: Final = ("status, reason, detail",)


@dataclass(frozen=True)
class CardFacts:
    """What the card says that the folder does not tell by itself.

    Parameters
    ----------
    name
        Title of the dataset.
    source
        Name of the source, or `UNKNOWN`.
    licence, bibtex
        What its publisher says; empty if nothing.
    configs
        The divisions.
    dropped
        Reason of each published box that was dropped.
    metadata_only
        Whether frames and sounds were left out.
    version
        Of this project.
    """

    name: str
    source: str
    licence: str
    bibtex: str
    configs: Sequence[HubConfig]
    dropped: Sequence[str]
    metadata_only: bool
    version: str

    @property
    def passes_on_videos(self) -> bool:
        """Whether the folder holds parts of videos that belong to their uploaders, as far as is known."""
        return not self.metadata_only and (UPLOADERS in self.licence or self.source == UNKNOWN)


def write_card(facts: CardFacts, contents: HubContents) -> str:
    """Return the card's text.

    Parameters
    ----------
    facts
        What the folder does not tell by itself.
    contents
        What is in it.

    Returns
    -------
    str
        YAML for the hub, then Markdown.
    """
    parts = [
        "---",
        *_yaml(facts, contents),
        "---",
        f"# {facts.name}",
        _summary(facts, contents),
        "## Loading",
        _loading(facts, contents),
        "## Splits",
        *_splits(facts, contents),
        "## Columns",
        "\n".join(_columns(facts, contents)),
        "## How it was made",
        _made(facts, contents),
        "## What is missing",
        *_missing(facts, contents),
        "## Licence",
        _licence(facts),
    ]
    if facts.bibtex:
        parts += ["## Citation", f"```bibtex\n{facts.bibtex.strip()}\n```"]
    head, body = parts[: parts.index("---", 1) + 1], parts[parts.index("---", 1) + 1 :]
    return "\n".join(head) + "\n\n" + "\n\n".join(body) + "\n"


def _yaml(facts: CardFacts, contents: HubContents) -> Iterator[str]:
    """Yield the lines of the YAML head; JSON strings are YAML strings."""
    yield f"pretty_name: {json.dumps(facts.name)}"
    yield "license: other"
    yield f"license_name: {json.dumps('see-card')}"
    yield "tags: [audio-visual, sound-source-localization, audio, image]"
    size = next((name for bound, name in SIZES if contents.clips < bound), "n>1M")
    yield f"size_categories: [{json.dumps(size)}]"
    yield "configs:"
    for number, (config, files) in enumerate(contents.files.items()):
        yield f"- config_name: {json.dumps(config)}"
        if not number:
            yield "  default: true"
        yield "  data_files:"
        for split, paths in files.items():
            yield f"  - split: {json.dumps(split)}"
            yield f"    path: {json.dumps(paths)}"


def _summary(facts: CardFacts, contents: HubContents) -> str:
    what = (
        "ids, labels, boxes and splits, without pictures and sounds"
        if facts.metadata_only
        else ("one picture, its sound, a class and boxes of what sounds")
    )
    return (
        f"Clips for audio-visual source localization: {what}. {contents.clips:,} clips, "
        f"{contents.boxes:,} boxes, {len(contents.classes)} classes; source `{facts.source}`."
    )


def _loading(facts: CardFacts, contents: HubContents) -> str:
    config, files = next(iter(contents.files.items()))
    if facts.metadata_only:
        return f'`datasets.load_dataset(..., "{config}")`; the videos are to be had from their publishers.'
    note = (
        "Sounds are decoded by torchcodec, which `datasets` asks for as soon as a row is read; without it, "
        "`decode=False` gives the FLAC file as bytes."
    )
    return LOADING.format(place="FOLDER or USER/NAME", config=config, split=next(iter(files))) + "\n\n" + note


def _splits(facts: CardFacts, contents: HubContents) -> Iterator[str]:
    lines = ["| config | split | clips | left out |", "|---|---|--:|--:|"]
    left_out = Counter((config, split) for _, config, split, *_ in contents.excluded)
    for config in facts.configs or [HubConfig("default", {})]:
        lost = {split for name, split in left_out if name == config.name}
        for split in sorted({*contents.counts[config.name], *lost}):
            stored = contents.counts[config.name].get(split, 0)
            lines.append(f"| {config.name} | {split} | {stored:,} | {left_out[config.name, split]:,} |")
    yield "\n".join(lines)
    for config in facts.configs:
        shown = {key: config.about[key] for key in ("recipe", "params", "seed") if key in config.about}
        removed = {why: len(ids) for why, ids in config.about.get("removed", {}).items()}
        yield (
            f"`{config.name}`: made by `{json.dumps(shown, sort_keys=True)}`; removed from training, because "
            f"their video is in a held-out set or they come twice: `{json.dumps(removed, sort_keys=True)}`."
        )


def _columns(facts: CardFacts, contents: HubContents) -> Iterator[str]:
    yield "| column | content |"
    yield "|---|---|"
    left_out = [*(MEDIA if facts.metadata_only else STATUS)]
    if not contents.options.get("flow"):
        left_out.append(FLOW)
    for names, text in COLUMNS.items():
        if names not in left_out:
            yield f"| {', '.join(f'`{name}`' for name in names.split(', '))} | {text} |"


def _made(facts: CardFacts, contents: HubContents) -> str:
    options: Mapping[str, Any] = contents.options
    preset = str(options.get("preset"))
    how = f" (preset `{preset}`: {PRESETS[preset].note})" if preset in PRESETS else ""
    digests = "\n".join(f"- `{name}`: `{digest}`" for name, digest in sorted(contents.shards.items()))
    return (
        f"By avsl-toolkit {facts.version}, `avsl-data preprocess` and `avsl-data hub`, with "
        f"`{json.dumps(options, sort_keys=True)}`{how}. The picture of a time is the one that reading at 25 "
        "per second gives for it; picture and sound are on one clock. Content of the shards (SHA-256 over "
        f"their rows):\n\n{digests}"
    )


def _missing(facts: CardFacts, contents: HubContents) -> Iterator[str]:
    reasons = Counter(reason for *_, reason, _ in contents.excluded)
    if reasons:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        yield f"Clips of the splits without usable media, each with its reason in `{EXCLUSIONS}`: {listed}."
    else:
        yield "No clip of the splits is missing."
    for why, count in sorted(Counter(facts.dropped).items()):
        yield f"{count:,} published boxes were dropped: {why}. Their clips stay."
    if contents.notes:
        noted = [(name, contents.notes[name]) for name in NOTES if contents.notes[name]]
        lines = [f"- `{name}` {count:,}: {NOTES[name]}" for name, count in noted]
        yield "Peculiar clips, kept:\n\n" + "\n".join(lines)


def _licence(facts: CardFacts) -> str:
    text = facts.licence or "Not stated."
    if facts.passes_on_videos:
        text += (
            " **Frames and sounds in this folder are parts of videos: whether you may pass them on is "
            "yours to find out.** `avsl-data hub --metadata-only` leaves them out."
        )
    return text
