"""Every command and program of docs/use-a-model.md runs, in the order of the page."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from avsl_eval.__main__ import main as avsl_eval_main
from avsl_train.__main__ import main
from avsl_train.fit import fit, read_training_clips
from avsl_train.import_published import IMPORTS
from avsl_train.methods import METHODS
from avsl_train.published import EZVSL, ObjectPrior
from avsl_train.trained import values_of
from tests.train.conftest import World, make_config
from tests.train.test_hub_model import a_method
from tests.train.videos import make_video

PROGRAMS = {"avsl-train": main, "avsl-eval": avsl_eval_main}
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs/use-a-model.md").read_text(encoding="utf-8")


@pytest.fixture
def place(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with all files that the page begins with; torchvision's weights as if downloaded."""
    monkeypatch.chdir(tmp_path)
    config = make_config("xpl", optim={"steps": 1})
    clips = read_training_clips(config, [world.shards], world.split)
    fit(config, clips, 0, tmp_path / "runs/mine/seed0", threads=1)
    data = tmp_path / "data/mine"
    (data / "splits").mkdir(parents=True)
    (data / "shards").symlink_to(world.shards)
    (data / "splits/mine.parquet").symlink_to(world.split)
    truth = [{"clip_id": name, "boxes": [[0.1, 0.1, 0.8, 0.8]]} for name in world.test]
    annotations = {"schema": "avsl-annotations/1", "dataset": "mine", "subset": None, "truth": "union"}
    (tmp_path / "truth.json").write_text(json.dumps({**annotations, "clips": truth}))
    make_video(tmp_path / "video.mp4", duration_s=2.0)
    Image.new("RGB", (40, 30)).save(tmp_path / "frame.jpg")
    soundfile.write(tmp_path / "sound.wav", np.zeros((9000, 2)), 44100)
    torch.manual_seed(0)
    torch.save({"model": EZVSL().state_dict()}, tmp_path / "best.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    weights = {**ObjectPrior().state_dict(), "fc.weight": torch.zeros(1000, 512)}
    torch.save(weights, tmp_path / "hub/checkpoints/resnet18-f37072fd.pth")
    yield tmp_path
    for path in ("best.pth", "ezvsl.pt", "hub/checkpoints/resnet18-f37072fd.pth"):
        (tmp_path / path).unlink(missing_ok=True)


def lines(block: str) -> list[str]:
    """Return the commands of a block; a backslash continues one."""
    return block.replace("\\\n", " ").splitlines()


def test_every_command_and_program_runs(text: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall(text)
    # the page names what its later sections make: these come first, and the hub is that of test_hub_model
    commands = [line for kind, block in blocks if kind == "sh" for line in lines(block)]
    pushes = [line for line in commands if "--push" in line]
    assert len(pushes) == 1
    first = [line for line in commands if line.startswith(("avsl-train import", "avsl-train export"))]
    scored = [line for line in commands if "maps.npz" in line]
    in_order = dict.fromkeys([*scored, *first, *commands])
    for line in in_order:
        if line in pushes:
            continue
        program, *arguments = shlex.split(line)
        assert PROGRAMS[program](arguments) == 0, f"{line}\n{capsys.readouterr().err}"
    for name in ("overlay.mp4", "still.png", "still.jpg", "mixed.npz", "ogl.json", "exported/README.md"):
        assert (place / name).is_file()
    capsys.readouterr()
    (program,) = [block for kind, block in blocks if kind == "python"]
    exec(compile(program, "docs/use-a-model.md", "exec"), {})
    assert capsys.readouterr().out.startswith("xpl probability 0.5 ")


def test_the_table_of_values_has_every_method(text: str) -> None:
    section = text[text.index("| `model.values.name` |") : text.index("`load_model(place, which=")]
    listed = {
        name: kind
        for kind, names in re.findall(r"^\| `([^`]+)` \| ([a-z0-9, -]+) \|", section, re.MULTILINE)[1:]
        for name in names.split(", ")
    }
    assert listed == {name: values_of(a_method(name)).name for name in METHODS}
    for name, (values, _) in IMPORTS.items():
        assert listed[name] == values.name
