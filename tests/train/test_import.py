"""Published checkpoints taken over: exact preprocessing, golden maps, and which file is which."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import avsl_train
from avsl_train.__main__ import main
from avsl_train.data import ClipSet
from avsl_train.errors import TrainInputError
from avsl_train.frontends import published
from avsl_train.import_published import IMPORTS, PublishedNetwork, import_published
from avsl_train.predict import write_predictions
from avsl_train.published import SOURCES, images
from tests.train.conftest import World, make_config
from tests.train.published_rules import image, spectrogram, with_recipe

LAYOUTS = {
    "ezvsl": ("model", "module."),
    "slavc": ("model", "module."),
    "fnac": ("model", "module."),
    "lvs": ("model_state_dict", "module."),
    "ssltie": ("state_dict", ""),
    "alignment": ("model_state_dict", ""),
}
"""Where each published file keeps its weights, and what stands before their names."""
GOLDEN = {
    "ezvsl": "Savl",
    "slavc": "Savl_online",
    "fnac": "Savl",
    "lvs": "A",
    "ssltie": "A",
    "alignment": "A",
}
HEARD = {"slavc": "ezvsl", "fnac": "ezvsl"}
SEEN = {"lvs": "lvs_eval", "ssltie": "lvs_eval", "alignment": "sslalignment_eval"}


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    """Return facts and arrays of the originals."""
    folder = shared / "golden/models"
    found: dict[str, Any] = {"facts": json.loads((folder / "models.json").read_text())}
    for name in ("models", "frontends", "images"):
        with np.load(folder / f"{name}.npz") as stored:
            found[name] = dict(stored)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder for files of hundreds of megabytes, which do not outlive the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def lvs(tmp_path_factory: pytest.TempPathFactory) -> avsl_train.Model:
    """Return LVS's network with random weights, taken over."""
    folder = tmp_path_factory.mktemp("lvs")
    write_published("lvs", folder / "lvs.pth")
    import_published("lvs", folder / "lvs.pth", folder / "ours.pt")
    model = avsl_train.load_model(folder / "ours.pt", device="cpu")
    shutil.rmtree(folder)
    return model


def write_published(name: str, path: Path, network: torch.nn.Module | None = None) -> torch.nn.Module:
    """Write a checkpoint as its authors do."""
    torch.manual_seed(0)
    network = SOURCES[name].network().eval() if network is None else network
    wrapper, prefix = LAYOUTS[name]
    weights = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({wrapper: weights, "epoch": 3, "optimizer": {"state": {}}}, path)
    return network


def test_every_method_that_can_be_imported_is_compared() -> None:
    assert set(IMPORTS) == set(LAYOUTS) == set(GOLDEN)


@pytest.mark.parametrize("name", IMPORTS)
def test_maps_sounds_and_images_are_the_originals(golden: dict[str, Any], folder: Path, name: str) -> None:
    write_published(name, folder / "theirs.pth", with_recipe(name, golden["facts"]))
    assert main(["import", name, str(folder / "theirs.pth"), "--out", str(folder / "ours.pt")]) == 0
    model = avsl_train.load_model(folder / "ours.pt", device="cpu")
    network = model.network
    assert isinstance(network, PublishedNetwork)

    frames = golden["facts"][name]["spec_T"]
    with torch.no_grad():
        found = network.network.localize(image(), spectrogram(frames))[:, 0].numpy()  # type: ignore[operator]
    tolerance = 2e-4 if model.values.name == "cosine/0.03" else 2e-5
    stored = golden["models"][f"{name}.{GOLDEN[name]}"].reshape(found.shape)
    np.testing.assert_allclose(found, stored, rtol=0, atol=tolerance)

    for wave in ("w10", "w2"):
        heard = network.frontend(torch.from_numpy(golden["frontends"][f"wave.{wave}"])).numpy()
        wanted = golden["frontends"][f"{HEARD.get(name, name)}.{wave}"].reshape(*heard.shape[:-1], -1)
        step = 1 if wanted.shape == heard.shape else 3
        np.testing.assert_allclose(
            heard[..., ::step], wanted, rtol=0, atol=3e-2 if name == "ssltie" else 2e-6
        )

    draw = np.random.default_rng(77)
    blocks = np.kron(draw.integers(0, 256, (9, 16, 3)), np.ones((40, 40, 1), np.int64))
    pixels = np.clip(blocks + draw.integers(-8, 9, (360, 640, 3)), 0, 255).astype(np.uint8)
    seen = network.image(Image.fromarray(pixels)).numpy()[:, ::8, ::8]
    wanted = golden["images"][f"{SEEN.get(name, 'ezvsl_eval')}.tensor_stride8"]
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=2e-5)

    sound = golden["frontends"]["wave.w10"]
    inputs = [network.image(Image.fromarray(pixels))[None], published(name)(torch.from_numpy(sound))[None]]
    with torch.no_grad():
        wanted = network.network.localize(*inputs)[0, 0].numpy()  # type: ignore[operator]
    np.testing.assert_array_equal(model.localize(pixels, sound, sample_rate=16000, size="map"), wanted)


def test_stored_clips_are_predicted_as_the_test_loader_prepares_them(world: World, folder: Path) -> None:
    network: Any = write_published("ezvsl", folder / "best.pth")
    import_published("ezvsl", folder / "best.pth", folder / "ours.pt")
    out = folder / "p.npz"
    write_predictions(folder / "ours.pt", [world.shards], [*world.test, *world.excluded], out, None)
    with np.load(out) as stored:
        found, ids, meta = stored["heatmap"], stored["clip_id"].tolist(), json.loads(str(stored["meta"]))
    clips = ClipSet([world.shards], world.test, make_config("supervised").data)
    assert ids == world.test
    for position, heatmap in enumerate(found):
        frame, samples = clips.stored(position)
        assert frame.size == (60, 44)  # as stored, not the square of a training
        with torch.no_grad():
            wanted = network.localize(
                images.ezvsl(frame)[None], published("ezvsl")(torch.from_numpy(samples))[None]
            )
        np.testing.assert_allclose(heatmap, wanted[0, 0].numpy(), atol=1e-4)
    assert (meta["values"], meta["method"]) == ("cosine/0.03", "ezvsl")
    assert meta["value_range"] == pytest.approx([-1 / 0.03, 1 / 0.03])
    assert meta["source"]["file"] == "best.pth"
    assert meta["excluded"] == world.excluded
    with pytest.raises(
        TrainInputError, match=r"--which a needs a method with two models, .* published ezvsl"
    ):
        avsl_train.load_model(folder / "ours.pt", which="a")


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (224, 224), (501, 333)])
def test_lvs_sees_the_middle_square(lvs: avsl_train.Model, width: int, height: int) -> None:
    """A map of LVS covers what its test loader cuts out: a mark at its border lies at the region's border."""
    region = lvs.network.region(width, height)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).round()[None]
    ramp[..., 1] = np.linspace(0, 255, height).round()[:, None]
    seen = np.asarray(images.lvs_pixels(Image.fromarray(ramp))).astype(float)
    assert seen[112, 0, 0] / 255 == pytest.approx(region.x0, abs=0.01)
    assert seen[112, -1, 0] / 255 == pytest.approx(region.x1, abs=0.01)
    assert seen[0, 112, 1] / 255 == pytest.approx(region.y0, abs=0.01)
    assert seen[-1, 112, 1] / 255 == pytest.approx(region.y1, abs=0.01)


def test_a_map_of_a_part_of_the_frame_lies_in_that_part(lvs: avsl_train.Model) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    sound = np.random.default_rng(1).integers(-9000, 9000, 30000).astype(np.int16)
    small = lvs.localize(frame, sound, sample_rate=16000, size="map")
    large = lvs.localize(frame, sound, sample_rate=16000)
    assert small.shape == (14, 14)
    assert (large[:, :35] == -1).all()
    assert (large[:, 125:] == -1).all()
    assert large[:, 36:124].min() >= small.min() - 1e-6 > -1


@pytest.mark.parametrize(
    ("name", "given", "hint"),
    [
        ("ezvsl", "slavc", "It is one of slavc: say `avsl-train import slavc`"),
        ("ezvsl", "lvs", "It is one of lvs: say `avsl-train import lvs`"),
        ("lvs", "ezvsl", "It is one of ezvsl or fnac: say `avsl-train import ezvsl`"),
        ("lvs", "ssltie", "It is one of ssltie: say `avsl-train import ssltie`"),
        ("ssltie", "alignment", "It is one of alignment: say `avsl-train import alignment`"),
    ],
)
def test_the_file_of_another_method_is_recognised(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, given: str, hint: str
) -> None:
    write_published(given, folder / "theirs.pth")
    assert main(["import", name, str(folder / "theirs.pth"), "--out", str(folder / "ours.pt")]) == 2
    said = capsys.readouterr().err
    assert f"is no checkpoint of {name} (" in said
    assert said.endswith(f"{hint}\n")
    assert said.count("\n") == 1
    assert not (folder / "ours.pt").exists()


def test_what_is_no_published_checkpoint_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert main(["import", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    out = str(tmp_path / "ours.pt")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"model": {"a.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    text, other = str(tmp_path / "text.pth"), str(tmp_path / "other.pth")
    assert "no published method 'ezvls' to import, did you mean 'ezvsl'? (there are: ezvsl," in refused(
        "ezvls", other, "--out", out
    )
    assert "no published method 'htf' to import" in refused("htf", other, "--out", out)
    assert f"no file {tmp_path / 'none.pth'}: the checkpoints of lvs are" in refused(
        "lvs", str(tmp_path / "none.pth"), "--out", out
    )
    assert "cannot be read as a state_dict: it may be cut short" in refused("lvs", text, "--out", out)
    assert "Is it the file of another network?" in refused("lvs", other, "--out", out)
    assert "is the input itself" in refused("lvs", other, "--out", other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pth", "text.pth"]


def test_a_checkpoint_of_ours_needs_no_import(world: World, tmp_path: Path) -> None:
    from avsl_train.fit import fit, read_training_clips

    config = make_config("supervised", optim={"steps": 1})
    fit(config, read_training_clips(config, [world.shards], world.split), 0, tmp_path / "run", threads=1)
    with pytest.raises(TrainInputError, match="is a checkpoint of avsl-train already: use it as it is"):
        import_published("ezvsl", tmp_path / "run/checkpoint.pt", tmp_path / "ours.pt")
