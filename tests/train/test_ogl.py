"""Object-guided localisation: the second predictions file, and what `avsl-eval` makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import avsl_eval
from avsl_eval.__main__ import main as avsl_eval_main
from avsl_eval.cli_mix import RULES as MIXING
from avsl_train.__main__ import main
from avsl_train.cli_predict import RULES
from avsl_train.data import ClipSet
from avsl_train.fit import fit, read_training_clips
from avsl_train.published import ObjectPrior, images
from tests.train.conftest import World, make_config


@pytest.fixture(scope="module")
def checkpoint(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    config = make_config("supervised", optim={"steps": 1})
    fit(config, read_training_clips(config, [world.shards], world.split), 0, out, threads=1)
    return out / "checkpoint.pt"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a file as torchvision's, classifier included, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("resnet") / "resnet18.pth"
    torch.save({**ObjectPrior().state_dict(), "fc.weight": torch.zeros(1000, 512)}, path)
    yield path
    path.unlink()


def arguments(world: World, checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [
        *("predict", "--checkpoint", str(checkpoint), "--shards", str(world.shards)),
        *("--clips", f"{world.split}:test", "--threads", "1", "--out", str(out), *more),
    ]


def read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def test_object_maps_are_those_of_the_network_on_the_whole_frame(
    world: World, checkpoint: Path, weights: Path, tmp_path: Path
) -> None:
    more = ["--ogl", str(tmp_path / "objects.npz"), "--ogl-weights", str(weights)]
    assert main(arguments(world, checkpoint, tmp_path / "p.npz", *more)) == 0
    found = read(tmp_path / "objects.npz")
    prior = ObjectPrior(str(weights)).eval()
    clips = ClipSet([world.shards], world.test, make_config("supervised").data)
    frames = torch.stack([images.ezvsl(clips.stored(place)[0]) for place in range(len(clips))])
    with torch.no_grad():
        wanted = prior.localize(frames)[:, 0].numpy()
    assert found["clip_id"].tolist() == world.test
    assert found["heatmap"].shape == (3, 7, 7)
    np.testing.assert_allclose(found["heatmap"], wanted, rtol=1e-4)
    meta = json.loads(str(found["meta"]))
    assert (meta["method"], meta["frames_of"]["method"]) == ("object_prior", "supervised")
    assert meta["excluded"] == world.excluded
    assert read(tmp_path / "p.npz")["clip_id"].tolist() == world.test


def test_mixed_maps_are_those_of_avsl_eval_and_can_be_scored(
    world: World, checkpoint: Path, weights: Path, tmp_path: Path
) -> None:
    plain, objects, later = (tmp_path / name for name in ("p.npz", "objects.npz", "later.npz"))
    common = ["--ogl-weights", str(weights)]
    assert main(arguments(world, checkpoint, plain, "--ogl", str(objects), *common)) == 0
    mix = [
        "mix",
        "--predictions",
        str(plain),
        "--objects",
        str(objects),
        "--rule",
        "ezvsl",
        "--out",
        str(later),
    ]
    assert avsl_eval_main(mix) == 0
    for alpha in (None, 0.7):
        at_once, out = tmp_path / f"{alpha}.npz", tmp_path / f"p{alpha}.npz"
        how = ["--ogl-rule", "ezvsl", *([] if alpha is None else ["--ogl-alpha", str(alpha)])]
        assert main(arguments(world, checkpoint, out, "--ogl", str(at_once), *how, *common)) == 0
        found = read(at_once)
        assert found["heatmap"].shape == (3, 224, 224)
        near = np.abs(found["heatmap"] - read(later)["heatmap"]).max() < 1e-5
        assert near == (alpha is None)
        meta = json.loads(str(found["meta"]))
        assert (meta["method"], meta["ogl"]["rule"]) == ("supervised", "ezvsl")
        assert meta["ogl"]["alpha"] == (alpha or 0.4)
    truth = {clip_id: [[0.2, 0.2, 0.8, 0.8]] for clip_id in world.test}
    scores = avsl_eval.evaluate(tmp_path / "None.npz", truth, protocol="ezvsl")
    assert (
        scores.metrics["ciou@0.5"] == avsl_eval.evaluate(later, truth, protocol="ezvsl").metrics["ciou@0.5"]
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ogl-rule", "ezvsl"], "--ogl-rule and --ogl-alpha need --ogl FILE"),
        (["--ogl-alpha", "0.5"], "--ogl-rule and --ogl-alpha need --ogl FILE"),
        (
            ["--ogl", "o.npz", "--ogl-alpha", "0.5"],
            "--ogl-alpha is the weight of the model's maps in a mixture",
        ),
        (["--ogl", "o.npz", "--ogl-rule", "ezvsl", "--ogl-alpha", "4"], "--ogl-rule: alpha is 4; the weight"),
        (
            ["--ogl", "o.npz", "--ogl-rule", "slavc"],
            "--ogl-rule slavc mixes cosine / tau as they are, and the",
        ),
        (["--ogl", "o.npz", "--ogl-weights", "none.pth"], "--ogl-weights: no file none.pth; use `imagenet`"),
        (["--ogl", "p.npz"], "--ogl and --out are the same file, p.npz"),
    ],
)
def test_wrong_options_are_told_before_anything_is_predicted(
    world: World,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments(world, checkpoint, Path("p.npz"), *more)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"avsl-train: error: {message}")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_every_rule() -> None:
    assert RULES == MIXING
