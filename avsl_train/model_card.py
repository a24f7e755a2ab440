"""The model card, README.md of an exported model: what it is, how good, how to load it, what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from avsl_train.checkpoint import file_digest
from avsl_train.errors import TrainInputError
from avsl_train.model import Model
from avsl_train.stored import StoredModel

NOT_CHOSEN: Final = "other"
METRICS: Final = {"ciou@0.5": "cIoU@0.5", "auc": "AUC", "pointing": "pointing game"}
"""Metrics of the card's table; the scores file has more."""

LOADING: Final = """\
```python
import avsl_train  # pip install 'avsl-toolkit[train]'

model = avsl_train.load_model("{place}")
heatmap = model.localize(frame, waveform, sample_rate=44100)  # [H, W] of the frame
```

```sh
avsl-train localize video.mp4 --checkpoint {place} --out overlay.mp4
```"""

RANKED: Final = (
    "only larger and smaller mean something, and the protocols that rank pixels or stretch each map apply"
)
MEANING: Final = {
    "probability": "the probability that a place sounds, in [0, 1]; 0.5 is a threshold with a meaning",
    "cosine": f"a cosine similarity in [-1, 1]: {RANKED}",
    "attention": f"a share of the attention, which sums to 1 over the map: {RANKED}",
}

LIMITS: Final = """\
- One frame and one sound: it says where in *this* picture the sound may come from, even when its source is
  not in the picture or nothing sounds. A map alone does not tell the cases apart; `avsl-train predict` writes
  a confidence beside it.
- The map is coarse ({cells} cells over the picture), so that small sources are found, not outlined.
- It knows what sounded in its training data. Kinds of sound, languages, places and recording devices that are
  rare there are strange to it; nobody has examined how that treats people.
- It is made for research. It identifies nobody and is not to be used to watch people."""


@dataclass(frozen=True)
class CardFacts:
    """What the card says that the model does not tell by itself.

    Parameters
    ----------
    name
        Title.
    place
        From where users load it: ``owner/name``, or a folder.
    licence
        Identifier of the hub, such as ``apache-2.0``; `NOT_CHOSEN` leaves a note to choose one.
    trained_on
        Training data in words; empty: not stated.
    run
        The training's ``run.json``; None: not there.
    scores
        Of `read_scores`; None: none given.
    """

    name: str
    place: str
    licence: str = NOT_CHOSEN
    trained_on: str = ""
    run: Mapping[str, Any] | None = None
    scores: Scores | None = None


@dataclass(frozen=True)
class Row:
    """Scores of one subset under one protocol.

    Parameters
    ----------
    subset, protocol
        Names.
    clips, seeds
        How many.
    values
        Value and interval by metric, fractions.
    ceiling, disc
        cIoU@0.5 of the best possible map under the rule, and of a centred disc; None: not computed.
    """

    subset: str
    protocol: str
    clips: int
    seeds: int
    values: dict[str, tuple[float, list[float] | None]]
    ceiling: float | None
    disc: float | None


@dataclass(frozen=True)
class Scores:
    """A scores or results file, as far as the card needs it."""

    testset: str
    rows: list[Row]


def read_scores(path: Path, model: StoredModel) -> Scores:
    """Read a scores or results file of a model.

    Raises
    ------
    TrainInputError
        It is neither, or of another checkpoint.
    """
    from avsl_eval.errors import EvalInputError
    from avsl_eval.results_file import read_results

    try:
        results = read_results(path)
    except EvalInputError as error:
        raise TrainInputError(str(error)) from error
    known = _checkpoints(results.content)
    if known and model.sha256 not in known:
        raise TrainInputError(
            f"{path} has the scores of another checkpoint (SHA-256 "
            f"{', '.join(digest[:12] for digest in sorted(known))}; this model's is {model.sha256[:12]}): "
            "predict and score this one"
        )
    rows = []
    for subset, held in results.subsets.items():
        for protocol, scored in held["protocols"].items():
            values = {
                name: (pooled["value"], pooled["ci95"])
                for name, pooled in scored["pooled"].items()
                if name in METRICS and pooled["value"] is not None
            }
            context = scored["context"]
            ceiling, disc = (
                context.get(name, {}).get("ciou@0.5", {}).get("value") for name in ("ceiling", "center_prior")
            )
            row = Row(subset, protocol, scored["n_expected"], len(scored["seeds"]), values, ceiling, disc)
            rows.append(row)
    return Scores(results.testset, rows)


def read_run(checkpoint: Path) -> dict[str, Any] | None:
    """Return the ``run.json`` beside a checkpoint, if it is that training's."""
    path = checkpoint.parent / "run.json"
    if not (checkpoint.is_file() and path.is_file()):
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainInputError(f"{path} cannot be read as JSON ({error}): move it away or mend it") from error
    if not isinstance(record, dict) or record.get("checkpoint_sha256") != file_digest(checkpoint):
        return None
    return record


def write_card(model: StoredModel, use: Model, facts: CardFacts) -> str:
    """Return the card's text.

    Parameters
    ----------
    model, use
        The model, and the same loaded.
    facts
        What they do not tell.
    """
    cells = _cells(use)
    parts = [
        f"# {facts.name}",
        _summary(model, use, cells),
        "## Use",
        LOADING.format(place=facts.place),
        _hears(use),
        "## Results",
        *_results(facts.scores),
        "## Training",
        *_training(model, facts),
        "## Limits",
        LIMITS.format(cells=cells),
        "## Licence",
        _licence(facts, model),
    ]
    return "\n".join(["---", *_front_matter(model, facts), "---", ""]) + "\n" + "\n\n".join(parts) + "\n"


def _front_matter(model: StoredModel, facts: CardFacts) -> Iterator[str]:
    """Yield the YAML lines; JSON strings are YAML strings."""
    yield "library_name: avsl-toolkit"
    yield f"license: {json.dumps(facts.licence)}"
    if facts.licence == NOT_CHOSEN:
        yield 'license_name: "not-chosen"'
    yield f"tags: [audio-visual, sound-source-localization, {json.dumps(model.method)}]"
    if facts.scores is None:
        return
    yield "model-index:"
    yield f"- name: {json.dumps(facts.name)}"
    yield "  results:"
    for row in facts.scores.rows:
        dataset = json.dumps(f"{facts.scores.testset}, {row.subset}")
        yield "  - task: {type: audio-visual-source-localization, name: Audio-visual source localization}"
        yield f"    dataset: {{type: {json.dumps(facts.scores.testset)}, name: {dataset}}}"
        yield "    metrics:"
        for name, (value, _) in row.values.items():
            label = json.dumps(f"{METRICS[name]} under the protocol {row.protocol}")
            yield f"    - {{type: {json.dumps(name)}, value: {100 * value:.2f}, name: {label}}}"


def _cells(use: Model) -> str:
    """Return height and width of a map, by looking."""
    try:
        found = use.localize(Image.new("RGB", (32, 32)), np.zeros(1, np.int16), sample_rate=16000, size="map")
    except TrainInputError:
        return "a few"  # htf, which needs optical flow
    return f"{found.shape[0]} x {found.shape[1]}"


def _summary(model: StoredModel, use: Model, cells: str) -> str:
    over_tau = f"a cosine similarity divided by a temperature, {use.values.name}: {RANKED}"
    return (
        f"Where in a frame does its sound come from? A model of the method `{model.method}`: frame and "
        f"{use.window_s:g} s of sound in, a map of {cells} values out. A value is "
        f"{MEANING.get(use.values.name, over_tau)}."
    )


def _hears(use: Model) -> str:
    return (
        "Frames of any size, sounds of any length, rate and number of channels; they are brought to what "
        f"the model was trained on ({use.sample_rate} samples per second, one channel, the middle "
        f'{use.window_s:g} s). `size="map"` gives the map as it is, for scoring.'
    )


def _results(scores: Scores | None) -> Iterator[str]:
    if scores is None:
        yield "None given. `avsl-eval score` makes them, `avsl-train export --scores FILE` puts them here."
        return
    lines = ["| subset | protocol | clips | " + " | ".join(METRICS.values()) + " | *ceiling* | *disc* |"]
    lines.append("|---|---|--:|" + "--:|" * (len(METRICS) + 2))
    for row in scores.rows:
        cells = [_percent(*row.values[name]) if name in row.values else "" for name in METRICS]
        cells += ["" if value is None else _percent(value, None) for value in (row.ceiling, row.disc)]
        lines.append(f"| {row.subset} | `{row.protocol}` | {row.clips:,} | " + " | ".join(cells) + " |")
    yield (
        f"On {scores.testset}, in percent, with 95 % intervals over clips, by `avsl-eval`. Beside them the "
        "cIoU@0.5 of the best possible map under each rule and of a centred disc:"
    )
    yield "\n".join(lines)
    seeds = max((row.seeds for row in scores.rows), default=1)
    if seeds > 1:
        yield f"Means over {seeds} trainings with different seeds; this model is one of them."
    yield "Scores under different protocols cannot be compared: a protocol is how a map becomes a mask."


def _training(model: StoredModel, facts: CardFacts) -> Iterator[str]:
    if not model.trained_here:
        source = model.facts["source"]
        yield (
            f"By the authors of {model.method}; taken over from their file `{source['file']}` (SHA-256 "
            f"`{source['sha256']}`) without any change. Cite and credit them."
        )
        yield f"Training data: {facts.trained_on or 'see their paper.'}"
        return
    yield f"Training data: {facts.trained_on or 'not stated; say it with `--trained-on`.'}"
    if facts.run:
        clips = facts.run["clips"]
        yield (
            f"Its split has {clips['labeled']:,} clips with boxes and {clips['unlabeled']:,} without; "
            f"{facts.run['steps']:,} steps, {facts.run['device']}."
        )
    yield (
        f"avsl-toolkit {version('avsl-toolkit')}, seed {model.facts['seed']}, step {model.facts['step']:,}, "
        f"configuration `{model.facts['config_digest']}` (in `config.json`), checkpoint SHA-256 "
        f"`{model.sha256}`."
    )


def _licence(facts: CardFacts, model: StoredModel) -> str:
    if facts.licence != NOT_CHOSEN:
        return f"`{facts.licence}`."
    theirs = "" if model.trained_here else " The weights are the authors': their terms apply."
    return (
        f"**Not chosen yet.** Choose one before others use it (`--licence`), and set it in the head.{theirs}"
    )


def _percent(value: float, interval: list[float] | None) -> str:
    if interval is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _checkpoints(content: Mapping[str, Any]) -> set[str]:
    """Return the digests of the checkpoints that a results file tells of."""
    provenance = content.get("provenance", {})
    stated = provenance.get("checkpoint_sha256")
    metas = provenance.get("predictions") or {}
    values = [*(stated.values() if isinstance(stated, dict) else [stated])]
    values += [meta.get("checkpoint_sha256") for meta in metas.values() if isinstance(meta, dict)]
    return {value for value in values if isinstance(value, str)}
