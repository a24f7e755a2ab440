"""Bad input: one message that says what is wrong and where, exit status 2, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval import evaluate
from avsl_eval.errors import EvalInputError
from avsl_eval.truth import read_annotations

IDS = ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040", "ccccccccccc_000000"]
GOOD = np.tile(np.linspace(0, 1, 7, dtype=np.float32), (3, 7, 1))


def npz(path: Path, **arrays: Any) -> None:
    np.savez(path, **({"clip_id": np.array(IDS), "heatmap": GOOD} | arrays))


def with_nan(path: Path) -> None:
    bad = GOOD.copy()
    bad[1, 2, 3] = np.nan
    npz(path, heatmap=bad)


def with_infinity(path: Path) -> None:
    bad = GOOD.astype(np.float64)
    bad[2, 0, 0] = 1e300
    npz(path, heatmap=bad)


def truncated(path: Path) -> None:
    npz(path)
    path.write_bytes(path.read_bytes()[:-400])


def damaged(path: Path) -> None:
    npz(path)
    content = bytearray(path.read_bytes())
    content[content.index(GOOD.tobytes()[:60]) + 30] ^= 0xFF
    path.write_bytes(bytes(content))


def pickled(path: Path) -> None:
    heatmaps = np.empty(3, object)
    heatmaps[:] = [np.zeros((7, 7)), np.zeros((8, 8)), np.zeros((9, 9))]
    npz(path, heatmap=heatmaps)


PREDICTIONS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "nan": (with_nan, ["-bb_bbbbbbb_000040", "1 values that are NaN"]),
    "infinity": (with_infinity, ["ccccccccccc_000000", "infinite"]),
    "axis": (
        lambda p: npz(p, heatmap=GOOD[:, None]),
        ["(3, 1, 7, 7)", "[N, h, w]", "aaaaaaaaaaa_000030", "axes of length 1"],
    ),
    "no pixels": (lambda p: npz(p, heatmap=GOOD[:, :0]), ["aaaaaaaaaaa_000030", "(0, 7)"]),
    "text": (lambda p: npz(p, heatmap=GOOD.astype("U5")), ["aaaaaaaaaaa_000030", "dtype <U5"]),
    "empty file": (lambda p: p.write_bytes(b"") and None, ["empty (0 bytes)"]),
    "no arrays": (np.savez, ["no array"]),
    "no clips": (lambda p: npz(p, clip_id=np.array([], "U1"), heatmap=GOOD[:0]), ["no clip"]),
    "truncated": (truncated, ["truncated"]),
    "damaged": (damaged, ["damaged", "CRC"]),
    "not an npz": (
        lambda p: p.write_text("clip_id,heatmap\n") and None,
        ["not a readable .npz", "<clip_id>.npy"],
    ),
    "object maps": (pickled, ["pickled", "never loaded", "folder of <clip_id>.npy"]),
    "object ids": (lambda p: npz(p, clip_id=np.array(IDS, object)), ["clip_id", "pickled", "dtype=str"]),
    "numeric ids": (lambda p: npz(p, clip_id=np.arange(3)), ["expected text"]),
    "missing key": (lambda p: np.savez(p, ids=np.array(IDS), heatmap=GOOD), ["lack clip_id", "heatmap, ids"]),
    "duplicates": (lambda p: npz(p, clip_id=np.array([IDS[0], IDS[0], IDS[1]])), ["more than once", IDS[0]]),
    "lengths": (lambda p: npz(p, heatmap=GOOD[:2]), ["3 clip_id but 2 heatmap"]),
    "path": (
        lambda p: npz(p, clip_id=np.array([*IDS[:2], "../../etc/passwd"])),
        ["'../../etc/passwd'", "path"],
    ),
    "missing": (
        lambda p: npz(p, clip_id=np.array(IDS[:1]), heatmap=GOOD[:1]),
        ["2 of 3", IDS[1], IDS[2], "--missing zero"],
    ),
    "cosine": (lambda p: npz(p, heatmap=2 * GOOD - 1), ["[-1, 1]", "fixed", "cosine"]),
    "logits": (lambda p: npz(p, heatmap=20 * GOOD - 10), [IDS[0], "logits", "sigmoid"]),
    "bytes": (lambda p: npz(p, heatmap=(255 * GOOD).astype(np.uint8)), ["8-bit", "255"]),
    "milliseconds": (
        lambda p: npz(p, clip_id=np.array(["aaaaaaaaaaa_30000_40000", "x", "y"])),
        ["no clip in common", IDS[0], "respell"],
    ),
    "suffix": (
        lambda p: npz(p, clip_id=np.array([f"{i}.mp4" for i in IDS])),
        ["no clip in common", "respell"],
    ),
    "comma": (lambda p: npz(p, clip_id=np.array(["aaaaaaaaaaa,30", "x", "y"])), ["aaaaaaaaaaa,30", IDS[0]]),
    "other set": (
        lambda p: npz(p, clip_id=np.array(["x", "y", "z"])),
        ["no clip in common", "same test set"],
    ),
    "some respelt": (
        lambda p: npz(p, clip_id=np.array([*IDS[:2], "ccccccccccc_0_10000"])),
        ["1 of 3", "'ccccccccccc_0_10000'", "respell"],
    ),
}


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_predictions(kind: str, tmp_path: Path, annotations: Path, command: Any) -> None:
    write, fragments = PREDICTIONS[kind]
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "p.npz")
    out = tmp_path / "out"
    done = command(
        "score",
        "--predictions",
        folder / "p.npz",
        "--annotations",
        annotations,
        "--protocol",
        "fixed",
        "--out",
        out / "scores.json",
        "--per-clip",
        out / "per_clip.csv",
    )
    check(done, fragments, out)


def check(done: Any, fragments: list[str], out: Path) -> None:
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("avsl-eval: warning: ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("avsl-eval: error: ")
    for fragment in fragments:
        assert fragment in errors[0]
    assert not done.stdout
    assert not out.exists()


ANNOTATIONS: dict[str, tuple[str, list[str]]] = {
    "not json": ("file,class\n", ["not JSON", "vggss.json"]),
    "other json": ('{"a": 1}', ["no known format", "vggss.json", ".xml"]),
    "empty list": ("[]", ["no clip at all"]),
    "deep": ("[" * 100_000, ["not JSON"]),
    "pixels": (
        json.dumps([{"file": IDS[0], "class": "x", "bbox": [[10, 20, 200, 180]]}]),
        ["look like pixels"],
    ),
    "numbers": (
        json.dumps([{"file": IDS[0], "class": "x", "bbox": [["a", 0, 1, 1]]}]),
        [IDS[0], "not numbers"],
    ),
    "corners": (
        json.dumps([{"file": IDS[0], "class": "x", "bbox": [[0, 1, 1]]}]),
        [IDS[0], "[x0, y0, x1, y1]"],
    ),
    "twice": (json.dumps([{"file": IDS[0], "class": "x", "bbox": []}] * 2), ["more than once", IDS[0]]),
    "truth": (
        '{"schema": "avsl-annotations/1", "truth": "vote", "clips": []}',
        ["'vote'", "union, consensus"],
    ),
}


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_annotations(kind: str, tmp_path: Path, predictions: Path, command: Any) -> None:
    text, fragments = ANNOTATIONS[kind]
    path, out = tmp_path / "bad.json", tmp_path / "out"
    path.write_text(text)
    done = command(
        "score",
        "--predictions",
        predictions,
        "--annotations",
        path,
        "--protocol",
        "lvs",
        "--out",
        out / "s.json",
    )
    check(done, fragments, out)


@pytest.mark.parametrize(
    ("changed", "fragments"),
    [
        ({"--protocol": "ezvls"}, ["unknown protocol 'ezvls'", "'ezvsl'", "lvs, ezvsl, ezvsl-val, slavc"]),
        ({"--missing": "zreo"}, ["'zreo'", "'zero'"]),
        ({"--predictions": "nowhere.npz"}, ["nowhere.npz", "there are no predictions"]),
        ({"--annotations": "nowhere.json"}, ["nowhere.json", "No such file"]),
        ({"--out": "/proc/version/scores.json"}, ["cannot write", "/proc/version"]),
        ({"--out": "annotations.json"}, ["named twice"]),
    ],
)
def test_arguments(
    changed: dict[str, str],
    fragments: list[str],
    tmp_path: Path,
    annotations: Path,
    predictions: Path,
    command: Any,
) -> None:
    arguments = {
        "--predictions": predictions.name,
        "--annotations": annotations.name,
        "--protocol": "fixed",
        "--out": "out/scores.json",
        "--per-clip": "out/per_clip.csv",
    } | changed
    before = annotations.read_bytes()
    done = command("score", *(part for pair in arguments.items() for part in pair), cwd=tmp_path)
    check(done, fragments, tmp_path / "out" / "scores.json")
    assert annotations.read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.csv"))


def test_folder_of_arrays(tmp_path: Path, annotations: Path, maps: dict[str, np.ndarray]) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    with pytest.raises(EvalInputError, match=r"no \.npy file"):
        evaluate(folder, annotations)
    for clip_id, heatmap in maps.items():
        np.save(folder / f"{clip_id}.npy", heatmap)
    evaluate(folder, annotations)
    bad = folder / f"{IDS[1]}.npy"
    np.save(bad, maps[IDS[1]][None])
    with pytest.raises(EvalInputError, match=rf"{IDS[1]} has shape \(1, 14, 14\).*axes of length 1"):
        evaluate(folder, annotations)
    np.save(bad, np.array([{}], object))
    with pytest.raises(EvalInputError, match=rf"{IDS[1]}.*never unpickled"):
        evaluate(folder, annotations)
    bad.write_bytes(bad.read_bytes()[:20])
    with pytest.raises(EvalInputError, match=rf"{IDS[1]}.*no readable array"):
        evaluate(folder, annotations)
    bad.write_bytes(b"")
    with pytest.raises(EvalInputError, match=rf"{IDS[1]}.*no readable array"):
        evaluate(folder, annotations)


BOMB = """<!DOCTYPE a [<!ENTITY x "0"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]>
<annotation><a><bbox><n/><x>&y;</x><y>0</y><x>9</x><y>9</y></bbox></a></annotation>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "document type or entities"),
        ("<annotation><a>", "not well-formed"),
        ("<r><a><bbox><n/><x>1</x><x>1</x><x>1</x></bbox></a></r>", "3 corners"),
        ("<r><a><bbox><n/><x>1</x><x>one</x><x>1</x><x>1</x></bbox></a></r>", "not a whole number"),
    ],
)
def test_flickr_xml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "7.xml").write_text(text)
    with pytest.raises(EvalInputError, match=message):
        read_annotations(tmp_path)


def test_an_empty_folder_is_no_annotation(tmp_path: Path) -> None:
    with pytest.raises(EvalInputError, match=r"no \.xml file"):
        read_annotations(tmp_path)
