"""Bad files of every format through the command line: one error that says what and where, nothing written.

The cases of `test_bad_input` in a process of their own; here the program is called in this process, which is
fast enough for many.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from avsl_eval import evaluate
from avsl_eval.__main__ import main
from avsl_eval.errors import EvalInputError
from avsl_eval.predictions import open_predictions

IDS = ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040", "ccccccccccc_000000"]
MAPS = np.random.default_rng(0).random((3, 7, 9)).astype(np.float32)

NOISE = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)

Write = Callable[[Path], Path]


def npz(**arrays: Any) -> Write:
    def write(folder: Path) -> Path:
        np.savez(folder / "p.npz", **({"clip_id": np.array(IDS), "heatmap": MAPS} | arrays))
        return folder / "p.npz"

    return write


def zipped(members: dict[str, bytes], **options: Any) -> Write:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "p.npz", "w", **options) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return folder / "p.npz"

    return write


def as_npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def forged(shape: tuple[int, ...], descr: str = "<f4", data: bytes = b"\0" * 64) -> bytes:
    """Make an array file that declares more than it holds."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue() + data


def declared(info: dict[str, int]) -> Write:
    """Make an npz whose directory says other sizes of the heatmaps than are true."""

    def write(folder: Path) -> Path:
        path = npz()(folder)
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"heatmap.npy"))
        struct.pack_into("<I", content, at + 24, info["file_size"])
        path.write_bytes(bytes(content))
        return path

    return write


def encrypted(folder: Path) -> Path:
    path = npz()(folder)
    content = bytearray(path.read_bytes())
    for at, offset in ((0, 6), (content.index(b"PK\x01\x02"), 8)):
        content[at + offset] |= 1  # the flag of encryption, of the first array
    path.write_bytes(bytes(content))
    return path


def doubled(folder: Path) -> Path:
    path = npz()(folder)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("heatmap.npy", as_npy(MAPS))
    return path


def content(name: str, data: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def folder_of(files: dict[str, bytes]) -> Write:
    def write(folder: Path) -> Path:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder

    return write


def maps_and(files: dict[str, bytes]) -> Write:
    return folder_of({f"{i}.npy": as_npy(m) for i, m in zip(IDS, MAPS, strict=True)} | files)


def picture(pixels: np.ndarray, suffix: str = ".png", cut: int | None = None) -> Write:
    def write(folder: Path) -> Path:
        for clip_id in IDS:
            Image.fromarray(pixels).save(folder / f"{clip_id}{suffix}")
        bad = folder / f"{IDS[1]}{suffix}"
        bad.write_bytes(bad.read_bytes()[:cut])
        return folder

    return write


def huge_png(folder: Path) -> Path:
    """Write a picture of 30,000 x 30,000 white pixels: about 100 kB."""
    rows = zlib.compress(b"\0" * 1000)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    for clip_id in IDS:
        (folder / f"{clip_id}.png").write_bytes(png)
    return folder


def h5(fill: Callable[[Any], None]) -> Write:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "p.h5", "w") as file:
            file["clip_id"], file["heatmap"] = IDS, MAPS
            fill(file)
        return folder / "p.h5"

    return write


def replace(name: str, value: Any) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        del file[name]
        file[name] = value

    return fill


def h5_external_link(file: Any) -> None:
    del file["heatmap"]
    file["heatmap"] = h5py.ExternalLink("/etc/passwd", "x")


def h5_external_storage(file: Any) -> None:
    del file["heatmap"]
    file.create_dataset("heatmap", (3, 7, 9), "f4", external=[("/etc/passwd", 0, 756)])


def h5_cut(folder: Path) -> Path:
    path = h5(lambda _: None)(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def table(columns: dict[str, Any], cut: int | None = None) -> Write:
    def write(folder: Path) -> Path:
        whole = {"clip_id": IDS, "heatmap": [m.tolist() for m in MAPS]} | columns
        pq.write_table(pa.table({k: v for k, v in whole.items() if v is not None}), folder / "p.parquet")
        path = folder / "p.parquet"
        path.write_bytes(path.read_bytes()[:cut])
        return path

    return write


def ids(*names: str) -> Write:
    return npz(clip_id=np.array(names))


PICKLE = pickle.dumps({IDS[0]: 1.0})

PREDICTIONS: dict[str, tuple[Write, list[str]]] = {
    # shapes and types
    "2-D stack": (npz(heatmap=MAPS[0]), ["(7, 9)", "[N, h, w]", "N = 3"]),
    "5-D stack": (npz(heatmap=MAPS[:, None, None]), ["(3, 1, 1, 7, 9)", "axes of length 1"]),
    "several sources": (npz(heatmap=np.stack([MAPS] * 2, 1)), ["(3, 2, 7, 9)", "are these 2 sources"]),
    "float16 overflow": (
        npz(heatmap=np.full((3, 2, 2), np.inf, np.float16)),
        [IDS[0], "4 values", "half precision"],
    ),
    "complex": (npz(heatmap=MAPS.astype(complex)), [IDS[0], "complex128", "absolute or real"]),
    "dates": (npz(heatmap=MAPS.astype("M8[s]")), ["datetime64"]),
    "records": (npz(heatmap=np.zeros((3, 2, 2), [("a", "f4")])), ["dtype [('a', '<f4')]"]),
    "empty width": (npz(heatmap=MAPS[:, :, :0]), [IDS[0], "(7, 0)"]),
    "huge maps": (npz(heatmap=np.zeros((3, 1, 5000), np.uint8)), ["(1, 5000)", "1 to 4096"]),
    # ids
    "absolute id": (ids("/etc/passwd", *IDS[1:]), ["'/etc/passwd'", "a path"]),
    "backslash id": (ids("a\\b", *IDS[1:]), ["a path"]),
    "NUL id": (ids("a\0b", *IDS[1:]), ["not printable"]),
    "newline id": (ids("a\nb", *IDS[1:]), ["'a\\nb'", "not printable"]),
    "invisible id": (ids("a\u200bb", *IDS[1:]), ["not printable"]),
    "dots": (ids("..", *IDS[1:]), ["'..'", "a path"]),
    "empty id": (ids("", *IDS[1:]), ["'' is empty"]),
    "long id": (ids("x" * 3000, *IDS[1:]), ["longer than 200 characters", "'xxxx"]),
    "look-alike": (ids(IDS[0].replace("a", "\u0430", 1), *IDS[1:]), ["CYRILLIC SMALL LETTER A"]),
    "ids [N, 1]": (npz(clip_id=np.array(IDS)[:, None]), ["clip_id has shape (3, 1)"]),
    "ids latin-1": (npz(clip_id=np.array([b"\xe9", b"b", b"c"])), ["not Unicode text"]),
    "beyond Unicode": (
        zipped({"clip_id.npy": forged((1,), "<U1", b"\xff" * 4), "heatmap.npy": as_npy(MAPS[:1])}),
        ["beyond Unicode"],
    ),
    # confidence and meta
    "confidence length": (npz(confidence=np.zeros(2)), ["confidence has shape (2,)", "[3]"]),
    "confidence NaN": (npz(confidence=np.array([0, np.nan, 1])), [f"confidence of clip {IDS[1]} is NaN"]),
    "confidence text": (
        npz(confidence=np.array(["a", "b", "c"])),
        ["confidence has shape (3,) and dtype <U1"],
    ),
    "meta": (npz(meta=np.array("{'a': 1}")), ["meta is not JSON"]),
    "deep meta": (npz(meta=np.array("[" * 100_000)), ["meta is not JSON"]),
    # archives
    "bomb by shape": (
        zipped({"clip_id.npy": as_npy(np.array(IDS)), "heatmap.npy": forged((3, 4096, 4096))}),
        ["declares shape (3, 4096, 4096)", "201326592 bytes", "holds 64"],
    ),
    "bomb of ids": (
        zipped({"clip_id.npy": forged((3,), "<U400000000"), "heatmap.npy": as_npy(MAPS)}),
        ["clip_id declares shape (3,)", "4800000000 bytes"],
    ),
    "bomb by directory": (declared({"file_size": 4_000_000_000}), ["would grow from", "to 4000000000 bytes"]),
    "negative shape": (
        zipped({"clip_id.npy": as_npy(np.array(IDS)), "heatmap.npy": forged((-3, 7, 9))}),
        ["declares shape (-3, 7, 9)"],
    ),
    "long header": (
        zipped(
            {"clip_id.npy": as_npy(np.array(IDS)), "heatmap.npy": b"\x93NUMPY\x01\0\xff\xff" + b"[" * 65535}
        ),
        ["damaged", "Header info length"],
    ),
    "array version": (
        zipped({"clip_id.npy": as_npy(np.array(IDS)), "heatmap.npy": b"\x93NUMPY\x07\0"}),
        ["damaged"],
    ),
    "lzma": (
        zipped(
            {"clip_id.npy": as_npy(np.array(IDS)), "heatmap.npy": as_npy(MAPS)}, compression=zipfile.ZIP_LZMA
        ),
        ["NumPy never writes"],
    ),
    "zip of a zip": (zipped({"inner.npz": b"PK\x05\x06" + bytes(18)}), ["no array"]),
    "members without .npy": (zipped({"clip_id": b"", "heatmap": b""}), ["no array"]),
    "encrypted": (encrypted, ["encrypted", "without a password"]),
    "two of one name": (doubled, ["two arrays of one name"]),
    "wrong keys": (npz(clip_id=None, heatmap=None, ids=np.array(IDS)), ["pickled"]),
    "torch": (zipped({"archive/data.pkl": PICKLE}), ["never loaded", "np.savez"]),
    "pickle": (
        content("p.pkl", PICKLE),
        ["never loaded", "pickle.load(open('p.pkl', 'rb'))", "np.savez('p.npz'"],
    ),
    "nameless pickle": (content("predictions", PICKLE), ["never loaded"]),
    "single array": (content("p.npy", as_npy(MAPS)), ["without clip ids", "np.savez"]),
    "a picture": (content("a.png", b"\x89PNG\r\n\x1a\n"), ["of another format"]),
    # folders
    "empty folder": (folder_of({}), ["it is empty"]),
    "other files": (folder_of({"a.mat": b""}), ["it holds a.mat"]),
    "two kinds": (maps_and({"x.png": b""}), ["holds .npy and pictures", "which of them"]),
    "archive as .npy": (maps_and({f"{IDS[1]}.npy": b"PK\x03\x04"}), [IDS[1], "no readable array"]),
    "forged .npy": (
        maps_and({f"{IDS[1]}.npy": forged((4000, 4000))}),
        [IDS[1], "64000000 bytes", "holds 64"],
    ),
    "large .npy": (maps_and({f"{IDS[1]}.npy": forged((5000, 1), "<f4", bytes(20000))}), [IDS[1], "4096"]),
    "confidence.csv header": (maps_and({"confidence.csv": b"id,c\n"}), ["header clip_id,confidence"]),
    "confidence.csv lacks": (
        maps_and({"confidence.csv": b"clip_id,confidence\nx,1\n"}),
        ["3 heatmaps have no confidence", "1 confidences have no heatmap ('x')"],
    ),
    "confidence.csv twice": (
        maps_and({"confidence.csv": f"clip_id,confidence\n{IDS[0]},1\n{IDS[0]},2\n".encode()}),
        ["more than once"],
    ),
    "confidence.csv text": (
        maps_and({"confidence.csv": f"clip_id,confidence\n{IDS[0]},high\n".encode()}),
        ["not a number", "'high'"],
    ),
    "confidence.csv binary": (maps_and({"confidence.csv": b"\xff\xfe\0"}), ["cannot be read"]),
    # pictures
    "colours": (picture(np.zeros((4, 4, 3), np.uint8)), [IDS[1], "mode RGB", "write the map itself"]),
    "cut png": (picture(NOISE, cut=300), [IDS[1], "no readable PNG"]),
    "cut jpg": (
        picture(NOISE, ".jpg", 300),
        [IDS[1], "no readable"],
    ),
    "huge png": (huge_png, [IDS[1], "900000000 pixels"]),
    # HDF5
    "h5 without ids": (h5(lambda f: f.__delitem__("clip_id")), ["lack clip_id", "heatmap"]),
    "h5 numbers as ids": (h5(replace("clip_id", np.arange(3))), ["expected text"]),
    "h5 lengths": (h5(replace("clip_id", IDS[:2])), ["2 clip_id but 3 heatmap"]),
    "h5 link": (h5(h5_external_link), ["heatmap is a link", "not followed"]),
    "h5 other file": (h5(h5_external_storage), ["stored in another file"]),
    "h5 group": (h5(lambda f: (f.__delitem__("heatmap"), f.create_group("heatmap"))), ["heatmap is a group"]),
    "h5 NaN": (h5(replace("heatmap", np.full((3, 2, 2), np.nan))), [IDS[0], "NaN"]),
    "h5 declared": (
        h5(
            lambda f: (
                f.__delitem__("heatmap"),
                f.create_dataset("heatmap", (3, 10**6, 10**6), "f4", chunks=(1, 8, 8)),
            )
        ),
        ["(3, 1000000, 1000000)", "0 are stored"],
    ),
    "h5 chunks": (
        h5(
            lambda f: (
                f.__delitem__("heatmap"),
                f.create_dataset("heatmap", (3, 4000, 4000), "f8", chunks=(3, 4000, 4000)),
            )
        ),
        ["chunks of shape (3, 4000, 4000)", "chunks=(1, h, w)"],
    ),
    "h5 cut": (h5_cut, ["truncated or damaged"]),
    # tables
    "parquet without maps": (table({"heatmap": None, "maps": [1, 2, 3]}), ["lack heatmap", "maps"]),
    "parquet numbers": (table({"heatmap": [1.0, 2.0, 3.0]}), ["has type double", "lists of lists"]),
    "parquet text": (table({"heatmap": [[["a"]]] * 3}), ["string", "lists of numbers"]),
    "parquet ragged": (table({"heatmap": [[[1.0, 2.0], [3.0]]] * 3}), [IDS[0], "different lengths"]),
    "parquet null map": (table({"heatmap": [[[1.0, 2.0]], None, [[1.0, 2.0]]]}), [IDS[1]]),
    "parquet null value": (table({"heatmap": [[[1.0, None]]] * 3}), [IDS[0], "NaN"]),
    "parquet null id": (table({"clip_id": ["a", None, "c"]}), ["1 nulls"]),
    "parquet flat": (table({"heatmap": [m.ravel() for m in MAPS]}), [IDS[0], "63 values", "column shape"]),
    "parquet shape": (
        table({"heatmap": [m.ravel() for m in MAPS], "shape": [[7, 8]] * 3}),
        ["63 values, which are not of shape [7, 8]"],
    ),
    "parquet confidence": (table({"confidence": [1.0, None, 2.0]}), ["confidence"]),
    "parquet cut": (table({}, cut=-20), ["truncated or damaged"]),
    "parquet twice": (table({"clip_id": [IDS[0]] * 3}), ["more than once"]),
    "saved state": (folder_of({"state.json": b"{}"}), ["names no data file"]),
    "saved elsewhere": (
        folder_of({"state.json": b'{"_data_files": [{"filename": "../../x.arrow"}]}'}),
        ["names no data file of this folder"],
    ),
    "saved cut": (
        folder_of({"state.json": b'{"_data_files": [{"filename": "d.arrow"}]}', "d.arrow": b"\xff" * 40}),
        ["truncated or damaged"],
    ),
    "saved subset": (
        folder_of(
            {
                "state.json": b'{"_data_files": [{"filename": "d.arrow"}], '
                b'"_indices_data_files": [{"filename": "i"}]}'
            }
        ),
        ["flatten_indices"],
    ),
    "saved splits": (folder_of({"dataset_dict.json": b"{}"}), ["folder of one split"]),
}


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def refused(
    arguments: list[object], fragments: list[str], outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that a command ends with one error and leaves all files as they were."""
    before = tree(outside)
    assert main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("avsl-eval: warning: ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("avsl-eval: error: ")
    assert len(lines[0]) < 1500
    for fragment in fragments:
        assert fragment in lines[0]
    assert "Traceback" not in out + err
    assert tree(outside) == before


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_predictions(kind: str, tmp_path: Path, annotations: Path, capsys: Any) -> None:
    write, fragments = PREDICTIONS[kind]
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in")
    out = tmp_path / "out" / "scores.json"
    arguments = [
        "score",
        "--predictions",
        path,
        "--annotations",
        annotations,
        "--protocol",
        "lvs",
        "--out",
        out,
    ]
    refused(arguments, fragments, tmp_path, capsys)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_check_finds_the_same(kind: str, tmp_path: Path, annotations: Path, capsys: Any) -> None:
    if kind in {"several sources"}:
        return  # they are no problem of the file
    write, fragments = PREDICTIONS[kind]
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in")
    assert main(["check", str(path), "--annotations", str(annotations)]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    for fragment in fragments:
        assert any(fragment in problem for problem in problems), out


@pytest.mark.parametrize("kind", ["npz", "h5", "parquet", "npy", "png"])
def test_truncation_at_any_offset(kind: str, tmp_path: Path, annotations: Path, capsys: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    writers: dict[str, Write] = {
        "npz": npz(),
        "h5": h5(lambda _: None),
        "parquet": table({}),
        "npy": maps_and({}),
        "png": picture(NOISE),
    }
    path = writers[kind](folder)
    victim = path if path.is_file() else sorted(folder.iterdir())[0]
    whole = victim.read_bytes()
    steps = np.unique(np.linspace(0, len(whole) - 1, 40).astype(int))
    if kind == "png":
        steps = steps[steps < len(whole) - 40]  # what follows the pixels can be missed
    arguments = ["score", "--predictions", path, "--annotations", annotations, "--protocol", "lvs"]
    for cut in steps:
        victim.write_bytes(whole[:cut])
        refused([*arguments, "--out", tmp_path / "s.json"], ["in"], tmp_path, capsys)


def box_xml(corners: str) -> str:
    return f"<r><a><bbox><n/>{corners}</bbox></a></r>"


def text(name: str, data: str) -> Write:
    return content(name, data.encode("utf-8", "surrogatepass"))


def clips(*rows: Any, **more: Any) -> Write:
    return text("a.json", json.dumps({"schema": "avsl-annotations/1", "clips": rows} | more))


def vggss(*boxes: Any, file: Any = IDS[0]) -> Write:
    return text("vggss.json", json.dumps([{"file": file, "class": "x", "bbox": list(boxes)}]))


XML = {
    "doctype": ('<!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>', ["document type"]),
    "laughs": (
        '<!DOCTYPE r [<!ENTITY a "0"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><r><a>&b;</a></r>',
        ["document type or entities"],
    ),
    "unknown entity": ("<r>&x;</r>", ["not well-formed"]),
    "not XML": ("<html><br></html>", ["not well-formed"]),
    "empty": ("", ["not well-formed"]),
    "encoding": ('<?xml version="1.0" encoding="klingon"?><r/>', ["not well-formed"]),
    "corners": (box_xml("<x>1</x><x>2</x><x>3</x>"), ["3 corners"]),
    "huge number": (box_xml(f"<x>{'9' * 5000}</x><x>2</x><x>3</x><x>3</x>"), ["not a whole number"]),
    "reversed": (box_xml("<x>200</x><x>200</x><x>30</x><x>30</x>"), ["end before they begin"]),
    "pixels": (box_xml("<x>1</x><x>2</x><x>900</x><x>900</x>"), ["look like pixels"]),
}

ANNOTATIONS: dict[str, tuple[Write, list[str]]] = {
    **{f"xml {kind}": (text(f"{IDS[0]}.xml", data), fragments) for kind, (data, fragments) in XML.items()},
    "deep JSON": (text("a.json", '{"a":' * 50_000), ["not JSON"]),
    "NaN in JSON": (text("vggss.json", f'[{{"file": "{IDS[0]}", "bbox": [[NaN, 0, 1, 1]]}}]'), ["holds NaN"]),
    "infinite": (text("vggss.json", f'[{{"file": "{IDS[0]}", "bbox": [[0, 0, 1, 1e999]]}}]'), ["infinity"]),
    "huge integer": (vggss([0, 0, 1, 10**400]), [IDS[0], "not numbers"]),
    "latin-1": (content("a.json", b'["\xe9"]'), ["not JSON"]),
    "reversed boxes": (vggss([0.9, 0.9, 0.1, 0.1]), ["1 of 1 boxes end before they begin", "width, height"]),
    "pixel boxes": (vggss([10, 20, 200, 180]), ["look like pixels"]),
    "nested boxes": (vggss([[0, 0, 1, 1]]), ["(1, 1, 4)", "[x0, y0, x1, y1]"]),
    "boxes of text": (vggss("0 0 1 1"), ["not numbers"]),
    "boxes as an object": (vggss({"x": 1}), ["not numbers"]),
    "many boxes": (vggss(*[[0, 0, 1, 1]] * 10_001), ["10001 boxes"]),
    "path as id": (vggss([0, 0, 1, 1], file="../../x"), ["'../../x'", "a path"]),
    "number as id": (vggss([0, 0, 1, 1], file=7), ["clip id 7 is not text"]),
    "surrogate id": (vggss([0, 0, 1, 1], file="\ud800"), ["not printable"]),
    "truth": (clips({"clip_id": "a", "boxes": []}, truth=["union"]), ["truth is ['union']"]),
    "clips as object": (
        text("a.json", '{"schema": "avsl-annotations/1", "clips": {"a": 1}}'),
        ["list of objects"],
    ),
    "dropped": (clips({"clip_id": "a", "boxes": []}, dropped=3), ["dropped must be"]),
    "bad RLE": (
        clips({"clip_id": "a", "mask": {"size": [9, 9], "counts": "\u00ff\u00ff"}}),
        ["run-length text"],
    ),
    "RLE size": (
        clips({"clip_id": "a", "mask": {"size": [9, 9], "counts": [80]}}),
        ["cover 80 pixels", "81"],
    ),
    "huge RLE": (clips({"clip_id": "a", "mask": {"size": [10**6, 10**6], "counts": [10**12]}}), ["4096"]),
    "negative RLE": (
        clips({"clip_id": "a", "mask": {"size": [2, 2], "counts": [-4, 8]}}),
        ["the runs of a mask"],
    ),
    "coco without size": (
        text("c.json", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}'),
        ["images must be a list", "height"],
    ),
    "coco polygon": (
        text(
            "c.json",
            '{"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "annotations": '
            '[{"image_id": 1, "segmentation": [[0, 0, 1e30, 0, 0, 1e30]]}]}',
        ),
        ["far outside"],
    ),
    "masks without folder": (
        text("is3.json", '[{"image": "/synthetic3241/a_b.jpg", "audio": "", "gt_box": "/m/a_b.jpg"}]'),
        ["--masks FOLDER"],
    ),
    "pixel list beyond": (
        text("is3.json", '[{"image": "/synthetic3241/a_b.jpg", "audio": "", "gt_box": [0, 0, 300, 4]}]'),
        ["[0, 224]"],
    ),
    "mask colours": (picture(np.zeros((4, 4, 3), np.uint8)), ["mask of clip", "mode RGB"]),
    "mask cut": (picture(NOISE, cut=300), ["mask of clip", "PNG"]),
    "empty folder": (folder_of({}), ["no .xml file and no picture"]),
    "missing": (lambda folder: folder / "nowhere.json", ["cannot read annotations", "No such file"]),
}


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_annotations(kind: str, tmp_path: Path, predictions: Path, capsys: Any) -> None:
    write, fragments = ANNOTATIONS[kind]
    folder = tmp_path / "in"
    folder.mkdir()
    path = write(folder)
    source = folder if path.suffix == ".xml" else path
    out = tmp_path / "out" / "scores.json"
    arguments = [
        "score",
        "--predictions",
        predictions,
        "--annotations",
        source,
        "--protocol",
        "lvs",
        "--out",
        out,
    ]
    refused(arguments, fragments, tmp_path, capsys)


@pytest.mark.parametrize(
    ("option", "data", "fragments"),
    [
        ("--extended", b"a,b\n", ["video,audio,label"]),
        ("--extended", b"video,audio,label\nx,y,non-sounding\n", ["extends another test set"]),
        ("--extended", b"video,audio,label\nx,x,sounding\n", ["'sounding'"]),
        ("--extended", b"video,audio,label\nx,x,non-sounding\nx,x,non-sounding\n", ["more than once", "x+x"]),
        ("--only", b"\xff\xff", ["no text"]),
        ("--only", b"", ["no clip at all"]),
        ("--only", b"nobody\n", ["'nobody'", "another test set"]),
        ("--only", f"{IDS[0]}\n{IDS[0]}.jpg\n".encode(), ["more than once"]),
        ("--masks", b"", ["is not there"]),
        ("--truth", b"", ["unknown truth"]),
    ],
)
def test_lists_beside_annotations(
    option: str,
    data: bytes,
    fragments: list[str],
    tmp_path: Path,
    predictions: Path,
    annotations: Path,
    capsys: Any,
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    arguments = ["score", "--predictions", predictions, "--annotations", annotations, "--protocol", "lvs"]
    refused([*arguments, option, path, "--out", tmp_path / "s.json"], fragments, tmp_path, capsys)


@pytest.mark.parametrize(
    ("changed", "fragments"),
    [
        ({"--out": "file/scores.json"}, ["cannot write"]),
        ({"--out": "."}, ["is a folder"]),
        ({"--out": "predictions.npz"}, ["named twice"]),
        ({"--out": "annotations.json"}, ["named twice"]),
        ({"--predictions": "nowhere"}, ["there are no predictions nowhere"]),
        ({"--predictions": "pipe"}, ["neither a file nor a folder"]),
        ({"--annotations": "folder"}, ["no .xml file"]),
    ],
)
def test_paths(
    changed: dict[str, str],
    fragments: list[str],
    tmp_path: Path,
    predictions: Path,
    annotations: Path,
    capsys: Any,
    monkeypatch: Any,
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    named = {
        "--predictions": predictions.name,
        "--annotations": annotations.name,
        "--protocol": "lvs",
        "--out": "s",
    }
    arguments = [part for pair in (named | changed).items() for part in pair]
    before = {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    assert main(["score", *arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    for fragment in fragments:
        assert fragment in err[0]
    after = {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before


def test_unreadable_files(predictions: Path, annotations: Path) -> None:
    assert evaluate(predictions, annotations, "lvs").n_scored
    user = os.geteuid()
    for path in (predictions, annotations):
        path.chmod(stat.S_IWUSR)
        if user == 0:  # who may read everything
            os.seteuid(65534)
        try:
            with pytest.raises(EvalInputError, match=r"cannot read .*Permission denied"):
                evaluate(predictions, annotations, "lvs")
        finally:
            os.seteuid(user)
        path.chmod(stat.S_IRUSR)


def test_a_folder_that_may_not_be_written_is_found_first(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "closed" / "s.json"
    out.parent.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    user = os.geteuid()
    arguments = ["--predictions", "gone", "--annotations", "gone", "--protocol", "lvs", "--out", str(out)]
    if user == 0:  # who may write everything
        os.seteuid(65534)
    try:
        assert main(["score", *arguments]) == 2
    finally:
        os.seteuid(user)
    assert f"cannot write {out}: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bomb by shape", "torch", "h5 link", "huge png", "parquet cut"])
def test_in_a_process_of_its_own(kind: str, tmp_path: Path, annotations: Path, command: Any) -> None:
    write, fragments = PREDICTIONS[kind]
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in")
    done = command(
        *("score", "--predictions", path, "--annotations", annotations),
        *("--protocol", "lvs", "--out", tmp_path / "s.json"),
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert all(fragment in done.stderr for fragment in fragments)
    assert not (tmp_path / "s.json").exists()


def test_readers_survive_damage() -> None:
    """Run the fuzzer for a few seconds; ``python tests/eval/fuzz_readers.py`` runs it for longer."""
    program = Path(__file__).with_name("fuzz_readers.py")
    done = subprocess.run(
        [sys.executable, program, "--seconds", "6", "--seed", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    n_inputs = int(done.stdout.splitlines()[-1].split()[0])
    assert n_inputs > 50


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(EvalInputError, match=r"^there are no predictions x"):
        open_predictions("x\0y")
    with pytest.raises(EvalInputError, match=r"^there are no predictions nowhere; expected"):
        open_predictions("nowhere")
