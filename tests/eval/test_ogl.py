"""Object-guided localisation: mixing and scoring give the published evaluators' numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsl_eval import evaluate
from avsl_eval.cli_mix import RULES
from avsl_eval.errors import EvalInputError
from avsl_eval.maps import rescale
from avsl_eval.npz_writer import write_npz
from avsl_eval.ogl import MIXING_RULES, get_rule, mix, mix_maps, mixed
from avsl_eval.predictions import open_predictions
from avsl_eval.protocol_table import PROTOCOLS
from avsl_eval.resizing import resize

from .conftest import Command

TAU = 0.03
PER_CLIP, SCORE = 6e-5, 6e-5


class Golden:
    def __init__(self, folder: Path) -> None:
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        low, flickr = np.load(folder / "inputs_lowres.npz"), np.load(folder / "inputs_flickr_lowres.npz")
        boxes = json.loads((folder / "vggss_boxes.json").read_text())
        ids, silent = low["ids"].tolist(), [f"silent_{k:06d}" for k in range(32)]
        full = np.load(folder / "inputs_full224.npz")["full224"]
        objects = resize(low["obj7"], 224, "bilinear", False)  # as large as the audio-visual maps
        flickr_ids = flickr["ids"].tolist()
        # Name to annotations, audio-visual maps (cosine / tau) and object maps, by clip id.
        self.sets: dict[str, tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]] = {
            "vggss_low7": (boxes, named(ids, low["low7"] / TAU), named(ids, low["obj7"])),
            "vggss_full224": (boxes, named(ids, full / TAU), named(ids, objects)),
            "vggss_plus_silent_low7": (
                {**{i: boxes[i] for i in ids}, **{i: [] for i in silent}},
                named(ids + silent, np.concatenate([low["low7"], low["sil7"]]) / TAU),
                named(ids + silent, np.concatenate([low["obj7"], low["silobj7"]])),
            ),
            "flickr_low7": (
                folder / "flickr_xml",
                named(flickr_ids, flickr["fl7"] / TAU),
                named(flickr_ids, low["obj7"][:16]),
            ),
        }

    def score(self, name: str, rule: str, protocol: str, out: Path, alpha: float | None = None) -> Any:
        """Mix into a file and score that file by the published protocol, as a user does."""
        annotations, av, objects = self.sets[name]
        assert mix(av, objects, out, rule, alpha) == len(av)
        assert protocol in MIXING_RULES[rule].scored_by
        return evaluate(out, annotations, protocol)


def named(ids: list[str], maps: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(ids, maps, strict=True))


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return Golden(shared / "golden" / "eval")


def per_clip(scores: Any, wanted: list[float], tolerance: float = PER_CLIP) -> None:
    found = scores.per_clip["ciou"].fillna(0).to_numpy()[: len(wanted)]
    np.testing.assert_allclose(found, np.array(wanted, dtype=float), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("key", "rule", "name"),
    [
        ("ezvsl_test", "ezvsl", "vggss_low7"),
        ("ezvsl_test", "ezvsl", "vggss_full224"),
        ("ezvsl_test", "ezvsl", "flickr_low7"),
        ("fnac_validate2", "ezvsl-val", "vggss_low7"),
        ("fnac_validate2", "ezvsl-val", "flickr_low7"),
    ],
)
def test_ezvsl_and_fnac(golden: Golden, tmp_path: Path, key: str, rule: str, name: str) -> None:
    expected = golden.expected[key][name]["av_obj_alpha0.4"]
    scores = golden.score(name, rule, MIXING_RULES[rule].scored_by[0], tmp_path / "mixed.npz")
    per_clip(scores, expected["per_sample"])
    assert scores.metrics["ciou@0.5"] == pytest.approx(expected["AP50(cIoU@0.5)"], abs=SCORE)
    assert scores.metrics["auc"] == pytest.approx(expected["AUC"], abs=SCORE)
    assert scores.metrics["mean_iou"] == pytest.approx(expected["Avg-cIoU"], abs=SCORE)


@pytest.mark.parametrize(
    ("protocol", "key", "tolerance"),
    # Adaptive masks are small: of the clip that differs, one pixel is 8.9e-5 of the union.
    [("sslalignment", "median", PER_CLIP), ("adaptive", "adaptive", 1e-4)],
)
def test_sslalignment(golden: Golden, tmp_path: Path, protocol: str, key: str, tolerance: float) -> None:
    scores = golden.score("vggss_low7", "ezvsl", protocol, tmp_path / "mixed.npz")
    per_clip(scores, golden.expected["sslalignment"][f"OGL_alpha0.4_{key}"], tolerance)


@pytest.mark.parametrize(
    ("name", "kind", "alpha"),
    [
        ("vggss_low7", "relative", 0.9),
        ("vggss_low7", "absolute0.5", 0.9),
        ("vggss_full224", "relative", 0.9),
        ("flickr_low7", "relative", 0.4),
        ("vggss_plus_silent_low7", "relative", 0.9),
        ("vggss_plus_silent_low7", "absolute0.5", 0.9),
    ],
)
def test_slavc(golden: Golden, tmp_path: Path, name: str, kind: str, alpha: float) -> None:
    expected = golden.expected["slavc"][f"{name}_{kind}_alpha{alpha}"]["av_obj"]
    protocol = "slavc" if kind == "relative" else "slavc-absolute"
    scores = golden.score(name, "slavc", protocol, tmp_path / "mixed.npz", alpha)
    sounding = sum(n > 0 for n in expected["n_boxes"])
    per_clip(scores, expected["per_sample_cIoU"][:sounding])
    confidence = scores.per_clip["confidence"].to_numpy(dtype=float)
    np.testing.assert_allclose(confidence, expected["confidence"], rtol=0, atol=2e-6)
    for subset in ("all", "visible", "huge"):
        for percent in (50, 75):
            ours = scores.sections["detection"][subset]
            for theirs, metric in (("AP", "ap"), ("Precision", "precision")):
                value = expected["metrics"][f"{theirs}-{subset}@{percent}"]
                assert ours[f"{metric}@{percent / 100:g}"] == pytest.approx(value, abs=SCORE)


def test_the_stored_map_gives_the_mixed_score_back() -> None:
    rng = np.random.default_rng(0)
    rule = MIXING_RULES["slavc"]
    av = rng.uniform(-1, 1, (3, 224, 224)).astype(np.float32) / np.float32(TAU)
    objects = rng.uniform(0, 3, (3, 224, 224)).astype(np.float32)
    wanted = 0.9 * (av.astype(float) + 1 / TAU) / (2 / TAU) + 0.1 * objects / 2.5
    stored = mix_maps(av, objects, rule)
    np.testing.assert_allclose(rescale(stored, PROTOCOLS["slavc"]), wanted, rtol=0, atol=3e-7)


def test_mixing_by_hand() -> None:
    rule = MIXING_RULES["ezvsl"]
    small = dataclasses.replace(
        rule,
        audio_visual=dataclasses.replace(rule.audio_visual, map_size=2),
        objects=dataclasses.replace(rule.objects, map_size=2),
    )
    av, objects = np.array([[[0, 10], [5, 0]]]), np.array([[[3, 1], [1, 2]]])
    # .4 * [0, 1, .5, 0] + .6 * [1, 0, 0, .5] = [.6, .4, .2, .3]
    assert mix_maps(av, objects, small)[0].ravel().tolist() == pytest.approx([1, 0.5, 0, 0.25])
    assert mix_maps(av, objects, small, alpha=1)[0].ravel().tolist() == pytest.approx([0, 1, 0.5, 0])
    assert mix_maps(av, objects, small, alpha=0)[0].ravel().tolist() == pytest.approx([1, 0, 0, 0.5])


@pytest.mark.parametrize("rule", ["ezvsl", "slavc"])
@settings(max_examples=20, deadline=None)
@given(
    av=hnp.arrays(np.float32, (1, 5, 5), elements=st.integers(-8, 8).map(float)),
    objects=hnp.arrays(np.float32, (1, 3, 4), elements=st.integers(0, 8).map(float)),
    alpha=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_properties(rule: str, av: np.ndarray, objects: np.ndarray, alpha: float) -> None:
    result = mix_maps(av, objects, MIXING_RULES[rule], alpha)
    assert (result.shape, result.dtype) == ((1, 224, 224), np.float32)
    assert np.isfinite(result).all()
    if rule == "ezvsl" and result.min() < result.max():
        assert (result.min(), result.max()) == (0, 1)
        # Stretched maps forget the scale of what went in.
        scaled = mix_maps(4 * av, 2 * objects, MIXING_RULES[rule], alpha)
        if av.min() < av.max() and objects.min() < objects.max():
            np.testing.assert_allclose(scaled, result, rtol=0, atol=1e-6)


def test_ids_in_another_order_and_what_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ids = [f"clip_{k}" for k in range(9)]
    av, objects = named(ids, rng.normal(size=(9, 7, 7)) * 40), named(ids, rng.random((9, 5, 5)))
    straight = dict(mixed(av, objects, MIXING_RULES["slavc"]))
    reversed_objects = dict(reversed(objects.items()))
    crossed = dict(mixed(av, reversed_objects, MIXING_RULES["slavc"]))
    assert list(crossed) == ids
    for clip_id in ids:
        np.testing.assert_array_equal(crossed[clip_id], straight[clip_id])
    source = tmp_path / "av.npz"
    meta = np.array(json.dumps({"model": "mine"}))
    np.savez(source, clip_id=np.array(ids), heatmap=np.stack(list(av.values())), meta=meta)
    mix(source, reversed_objects, tmp_path / "deep" / "mixed.npz", "slavc", 0.7)
    stored = open_predictions(tmp_path / "deep" / "mixed.npz")
    assert stored.clip_ids == tuple(ids)
    assert stored.meta["model"] == "mine"
    assert stored.meta["ogl"]["rule"] == "slavc"
    assert stored.meta["ogl"]["alpha"] == 0.7
    assert len(stored.meta["ogl"]["predictions"]["sha256"]) == 64
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["mixed.npz"]


def test_every_rule_can_be_named_on_the_command_line() -> None:
    assert tuple(MIXING_RULES) == RULES
    for rule in MIXING_RULES.values():
        assert set(rule.scored_by) <= set(PROTOCOLS)
    with pytest.raises(EvalInputError, match="unknown mixing rule 'ezvls'; did you mean 'ezvsl'"):
        get_rule("ezvls")


def test_cosines_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    maps = {"a": np.full((7, 7), 0.3)}
    list(mixed(maps, maps, MIXING_RULES["slavc"]))
    assert "divide them by tau" in caplog.text
    caplog.clear()
    list(mixed(maps, maps, MIXING_RULES["ezvsl"]))
    assert not caplog.text


@pytest.mark.parametrize(
    ("av", "objects", "message"),
    [
        (["a", "b"], ["a"], "1 clips have no object map: b"),
        (["a"], ["a", "c", "d"], "2 object maps have no clip: c, d"),
        (["a"], ["c"], "1 clips have no object map: a; 1 object maps have no clip: c"),
    ],
)
def test_other_clips(tmp_path: Path, av: list[str], objects: list[str], message: str) -> None:
    out = tmp_path / "mixed.npz"
    with pytest.raises(EvalInputError, match=message):
        mix({i: np.eye(3) for i in av}, {i: np.eye(3) for i in objects}, out, "ezvsl")
    assert not list(tmp_path.iterdir())


def test_a_broken_map_leaves_nothing_behind(tmp_path: Path) -> None:
    maps = {"a": np.eye(3), "b": np.full((3, 3), np.nan)}
    with pytest.raises(EvalInputError, match="clip b has 9 values that are NaN"):
        mix(maps, {"a": np.eye(3), "b": np.eye(3)}, tmp_path / "mixed.npz", "ezvsl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_is_a_weight(tmp_path: Path, alpha: float) -> None:
    with pytest.raises(EvalInputError, match=r"alpha is .*; the weight of the audio-visual map"):
        mix({"a": np.eye(3)}, {"a": np.eye(3)}, tmp_path / "mixed.npz", "ezvsl", alpha)


def test_the_writer_checks_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(ValueError, match="1 maps for 2 clips"):
        write_npz(path, ["a", "b"], (2, 2), [np.eye(2)], {})
    with pytest.raises(ValueError, match=r"map 1 has shape \(3, 3\)"):
        write_npz(path, ["a", "b"], (2, 2), [np.eye(2), np.eye(3)], {})
    with pytest.raises(EvalInputError, match="it is a folder"):
        write_npz(tmp_path, ["a"], (2, 2), [np.eye(2)], {})
    (tmp_path / "file").write_text("")
    with pytest.raises(EvalInputError, match="cannot write"):
        write_npz(tmp_path / "file" / "p.npz", ["a"], (2, 2), [np.eye(2)], {})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    write_npz(path, ["a", "-b"], (2, 2), [np.eye(2), 2 * np.eye(2)], {"x": 1})
    with np.load(path, allow_pickle=False) as stored:
        assert stored["clip_id"].tolist() == ["a", "-b"]
        assert stored["heatmap"].dtype == np.float32
        np.testing.assert_array_equal(stored["heatmap"], [np.eye(2), 2 * np.eye(2)])
    assert open_predictions(path).meta == {"x": 1}


def test_command(command: Command, tmp_path: Path, predictions: Path, annotations: Path) -> None:
    objects, out = tmp_path / "objects", tmp_path / "mixed.npz"
    objects.mkdir()
    for clip_id in open_predictions(predictions).clip_ids:
        np.save(objects / f"{clip_id}.npy", np.random.default_rng(0).random((7, 7)))
    given = ("mix", "--predictions", predictions, "--objects", objects)
    done = command(*given, "--rule", "ezvsl", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "3 clips mixed by ezvsl, alpha 0.4" in done.stdout
    assert "--protocol ezvsl" in done.stdout
    score = ("score", "--predictions", out, "--annotations", annotations, "--protocol", "ezvsl")
    scored = command(*score, "--out", tmp_path / "s.json")
    assert scored.returncode == 0, scored.stderr
    for wrong, message in (
        (("--rule", "ezvls", "--out", tmp_path / "x.npz"), "did you mean 'ezvsl'"),
        (("--rule", "slavc", "--alpha", "2", "--out", tmp_path / "x.npz"), "alpha is 2"),
        (("--rule", "slavc", "--out", predictions), "is named twice"),
    ):
        failed = command(*given, *wrong)
        assert failed.returncode == 2
        assert message in failed.stderr
        assert "Traceback" not in failed.stderr
        assert not (tmp_path / "x.npz").exists()
