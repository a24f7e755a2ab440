"""Clips that are here already: nested folders, archives of every kind and state, pictures with sounds."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsl_data import archives, tar_stream
from avsl_data.archives import Archive, open_archive
from avsl_data.catalog import read_bucket, write_catalog
from avsl_data.copies import FromArchives, FromFolder, InTurn, find_clips, key_of
from avsl_data.decode import verify
from avsl_data.download import download_bucket
from avsl_data.errors import DataInputError
from avsl_data.ledger import LedgerRow, read_ledger
from avsl_data.sources.source import CatalogClip
from avsl_data.tar_stream import ArchiveFaultError, TarStream

IDS = [f"-_{number:09d}_000030" for number in range(6)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> bytes:
    """Return the bytes of a clip of two seconds."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 2).read_bytes()


def catalog_of(ids: Sequence[str], url: str = "https://www.youtube.com/watch?v={}") -> list[CatalogClip]:
    return [
        CatalogClip(clip_id, clip_id[:11], url.format(clip_id[:11]), 30.0, 32.0, "", "test")
        for clip_id in ids
    ]


def tar_of(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def get(path: Path | Sequence[Path], ids: Sequence[str], tmp_path: Path) -> dict[str, LedgerRow]:
    """Take clips out of archives and return the ledger's rows."""
    paths = [path] if isinstance(path, Path) else path
    clips = tmp_path / "clips"
    opened = [open_archive(item, ids, clips, key_of) for item in paths]
    download_bucket(catalog_of(ids), FromArchives(opened, clips / "0000"), tmp_path / "0000.parquet")
    return {row.clip_id: row for row in read_ledger(tmp_path / "0000.parquet")}


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# Folders ---------------------------------------------------------------------------------------------------


def test_nested_folders_and_every_spelling(tmp_path: Path, clip: bytes) -> None:
    names = [
        "a/b/n88E2blrCiU_000185.mp4",
        "a/---g-f_I2yQ_1000_11000.MP4",
        "-0BIyqJj9ZU,30.mkv",
        "c/notes.txt",
    ]
    for name in [*names, "c/cat.mp4", "z/n88E2blrCiU_185000_195000.mp4"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(clip)
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)  # a circle
    assert find_clips(tmp_path) == {
        "n88E2blrCiU_000185": tmp_path / names[0],
        "---g-f_I2yQ_000001": tmp_path / names[1],
        "-0BIyqJj9ZU_000030": tmp_path / names[2],
    }


def test_what_a_folder_lacks_comes_from_the_next_place(tmp_path: Path, clip: bytes) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f"{IDS[0]}.mp4").write_bytes(clip)
    (folder / f"{IDS[1]}.mp4").write_bytes(clip[:2000])
    tar = tar_of(tmp_path / "a.tar", [(f"{clip_id}.mp4", clip) for clip_id in IDS[1:3]])
    clips = tmp_path / "clips" / "0000"
    archive = open_archive(tar, IDS, tmp_path / "clips", key_of)
    ways = InTurn([FromFolder.of(folder), FromArchives([archive], clips)])
    counts = download_bucket(catalog_of(IDS[:4]), ways, tmp_path / "l.parquet")
    assert counts == {"ok": 3, "missing": 1, "resumed": 0}
    paths = {row.clip_id: row.path for row in read_ledger(tmp_path / "l.parquet")}
    assert paths == {
        IDS[0]: str(folder / f"{IDS[0]}.mp4"),
        IDS[1]: str(clips / f"{IDS[1]}.mp4"),
        IDS[2]: str(clips / f"{IDS[2]}.mp4"),
        IDS[3]: None,
    }
    # A clip that was missing is looked for again, and the others are not.
    (folder / f"{IDS[3]}.mp4").write_bytes(clip)
    assert download_bucket(catalog_of(IDS[:4]), FromFolder.of(folder), tmp_path / "l.parquet") == {
        "ok": 4,
        "resumed": 3,
    }


# Archives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./", "scratch/data/video/", "a" * 150 + "/"])
def test_members_wherever_they_lie(tmp_path: Path, clip: bytes, mode: str, prefix: str) -> None:
    members = [(f"{prefix}{clip_id}.mp4", clip) for clip_id in IDS]
    rows = get(tar_of(tmp_path / "a.tar", members, mode), IDS[:3], tmp_path)
    assert {row.status for row in rows.values()} == {"ok"}
    for row in rows.values():
        assert Path(str(row.path)).read_bytes() == clip
    spooled = {name for name in files_in(tmp_path / "clips") if name.startswith(".archives")}
    # Only what the catalog names is ever written.
    assert {Path(name).name for name in spooled} - {"index.json", "index.lock"} == (
        set() if mode == "w" else set(IDS[:3])
    )
    assert files_in(tmp_path / "clips") - spooled == {f"0000/{clip_id}.mp4" for clip_id in IDS[:3]}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": "other/1"}'])
def test_a_damaged_index_is_made_again(tmp_path: Path, clip: bytes, own_cache: Path, damage: str) -> None:
    tar = tar_of(tmp_path / "a.tar", [(f"{clip_id}.mp4", clip) for clip_id in IDS])
    whole = open_archive(tar, IDS, tmp_path / "clips", key_of)
    (index,) = (own_cache / "archives").glob("*.json")
    index.write_text(damage)
    assert open_archive(tar, IDS, tmp_path / "clips", key_of) == whole


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_is_passed_over_once(
    tmp_path: Path, clip: bytes, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tar_of(tmp_path / "a.tar", [(f"{clip_id}.mp4", clip) for clip_id in IDS], mode)
    open_archive(tar, IDS[:3], tmp_path / "clips", key_of)
    scans: list[Path] = []
    scan = archives._scan

    def counted(path: Path, *rest: Any) -> Archive:
        scans.append(path)
        return scan(path, *rest)

    monkeypatch.setattr(archives, "_scan", counted)
    open_archive(tar, IDS[:3], tmp_path / "clips", key_of)
    assert scans == []
    open_archive(tar, IDS[:4], tmp_path / "clips", key_of)  # a larger catalog: a compressed one is read again
    assert len(scans) == (1 if mode == "w:gz" else 0)
    os.utime(tar, ns=(1, 1))  # another file, for all that is known
    open_archive(tar, IDS[:4], tmp_path / "clips", key_of)
    assert len(scans) == (2 if mode == "w:gz" else 1)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("fault", ["cut in a member", "cut in a header", "damaged header", "no end mark"])
def test_every_clip_before_a_fault_is_used(
    tmp_path: Path, clip: bytes, mode: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tar_of(tmp_path / "plain.tar", [(f"{clip_id}.mp4", clip) for clip_id in IDS])
    content = plain.read_bytes()
    step = 512 + len(clip) + -len(clip) % 512
    ends = {
        "cut in a member": content[: 3 * step + 700],
        "cut in a header": content[: 3 * step + 100],
        "damaged header": content[: 3 * step] + bytes([255]) * 512 + content[3 * step + 512 :],
        "no end mark": content[: 3 * step],
    }
    path = tmp_path / "a.tar"
    if mode == "w":
        path.write_bytes(ends[fault])
    else:
        import gzip

        path.write_bytes(gzip.compress(ends[fault]))
    rows = get(path, IDS, tmp_path)
    assert [rows[clip_id].reason for clip_id in IDS] == [None] * 3 + ["missing"] * 3
    assert "a.tar: " in str(rows[IDS[4]].detail)
    assert "the 3 clips before it are used" in caplog.text


@pytest.mark.parametrize("fault", ["cut", "bytes"])
def test_a_damaged_compression_keeps_what_came_before(tmp_path: Path, fault: str) -> None:
    random = np.random.default_rng(0)
    members = [(f"{clip_id}.mp4", random.bytes(200_000)) for clip_id in IDS]
    path = tar_of(tmp_path / "a.tar.gz", members, "w:gz")
    content = bytearray(path.read_bytes())
    middle = len(content) * 6 // 10  # in the fourth of six
    if fault == "cut":
        del content[middle:]
    else:
        content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    archive = open_archive(path, IDS, tmp_path / "clips", key_of)
    assert "damaged near byte" in str(archive.fault)
    assert set(archive.members) == set(IDS[: len(archive.members)])
    # Bytes that were not compressed further are damaged without a trace but the checksum at the end: which
    # member they are of is seen when it is decoded.
    assert len(archive.members) == (3 if fault == "cut" else 6)
    whole = 0
    for clip_id, written in zip(archive.members, members, strict=False):
        archive.copy_out(clip_id, tmp_path / "out")
        whole += (tmp_path / "out").read_bytes() == written[1]
    assert whole == (3 if fault == "cut" else 5)


def test_names_links_and_devices_lead_nowhere(tmp_path: Path, clip: bytes) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = tmp_path / "a.tar"
    with tarfile.open(tar, "w") as archive:
        for name, kind, target in [
            (f"{IDS[0]}.mp4", tarfile.SYMTYPE, "/etc/passwd"),
            (f"{IDS[1]}.mp4", tarfile.LNKTYPE, "../../outside/x"),
            (f"{IDS[2]}.mp4", tarfile.CHRTYPE, ""),
            (f"{IDS[3]}.mp4", tarfile.FIFOTYPE, ""),
            ("folder", tarfile.DIRTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        for name in (f"{outside}/{IDS[4]}.mp4", f"../../outside/{IDS[5]}.mp4", "../../../outside/evil.mp4"):
            info = tarfile.TarInfo(name)
            info.size = len(clip)
            archive.addfile(info, io.BytesIO(clip))
    rows = get(tar, IDS, tmp_path)
    assert [rows[clip_id].reason for clip_id in IDS] == ["missing"] * 4 + [None] * 2
    assert files_in(tmp_path / "clips") == {f"0000/{clip_id}.mp4" for clip_id in IDS[4:]}
    assert files_in(outside) == set()
    assert open_archive(tar, IDS, tmp_path / "clips", key_of).skipped == {
        "link": 2,
        "device": 2,
        "folder": 1,
        "no clip": 1,
    }


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def _sizes(clip: bytes) -> dict[str, tuple[bytes, str]]:
    whole = _header(f"{IDS[0]}.mp4", len(clip)) + clip + bytes(-len(clip) % 512)
    return {
        "a terabyte": (whole + _header(f"{IDS[1]}.mp4", 1 << 40), "declares 1099511627776 bytes"),
        "a long name": (whole + _header("x", 1 << 40, tarfile.GNUTYPE_LONGNAME), "extended header"),
        "a long pax": (whole + _header("x", 1 << 33, tarfile.XHDTYPE), "extended header"),
    }


@pytest.mark.parametrize("kind", ["a terabyte", "a long name", "a long pax"])
def test_sizes_that_are_only_declared(tmp_path: Path, clip: bytes, kind: str) -> None:
    content, message = _sizes(clip)[kind]
    (tmp_path / "a.tar").write_bytes(content)
    archive = open_archive(tmp_path / "a.tar", IDS, tmp_path / "clips", key_of)
    assert list(archive.members) == IDS[:1]
    assert message in str(archive.fault)


def _record(key: bytes, value: bytes) -> bytes:
    """Return an extended header with one record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
    record = b"%d %s=%s\n" % (length, key, value)
    return _header("x", len(record), tarfile.XHDTYPE) + record + bytes(-len(record) % tarfile.BLOCKSIZE)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (_record(b"size", "²".encode()), "whose size is no number"),
        (_record(b"size", b"9" * 5000), "whose size is no number"),
        (_record(b"size", b"-512"), "whose size is no number"),
        (
            _header("x", 5000, tarfile.XHDTYPE) + b"9" * 5120,
            r"declares|ends inside",
        ),  # a record's length without an end
        (_header("x", 1 << 70, tarfile.GNUTYPE_SPARSE), r"declares|ends inside"),
    ],
)
def test_numbers_that_are_none_and_numbers_without_end(
    packed: bool, more: bytes, fault: str, clip: bytes, tmp_path: Path
) -> None:
    content = _header(f"{IDS[0]}.mp4", len(clip)) + clip + bytes(-len(clip) % tarfile.BLOCKSIZE) + more
    content += _header(f"{IDS[1]}.mp4", 1 << 70)
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(content) if packed else content)
    rows = get(path, IDS[:2], tmp_path)
    assert (rows[IDS[0]].status, rows[IDS[1]].reason) == ("ok", "missing")
    assert re.search(fault, str(rows[IDS[1]].detail))


def test_an_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "_FREE_BYTES", 1 << 20)
    tar_of(tmp_path / "a.tar.gz", [("zeros.bin", bytes(1 << 23)), (f"{IDS[0]}.mp4", b"x")], "w:gz")
    with (
        TarStream(tmp_path / "a.tar.gz") as stream,
        pytest.raises(ArchiveFaultError, match="50 times its size"),
    ):
        list(stream)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "MAX_MEMBERS", 3)
    path = tar_of(tmp_path / "a.tar", [(f"{clip_id}.mp4", b"x") for clip_id in IDS])
    archive = open_archive(path, IDS, tmp_path / "clips", key_of)
    assert (list(archive.members), archive.fault) == (IDS[:3], "more than 3 members")


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"<html>" * 1000)
    with pytest.raises(DataInputError, match=r"a damaged header at its beginning: is it a tar file\?"):
        open_archive(tmp_path / "a.tar", IDS, tmp_path / "clips", key_of)
    with pytest.raises(DataInputError, match="is no file"):
        open_archive(tmp_path / "b.tar", IDS, tmp_path / "clips", key_of)


def test_a_second_copy_of_a_clip_is_passed_over(tmp_path: Path, clip: bytes) -> None:
    path = tar_of(tmp_path / "a.tar", [(f"a/{IDS[0]}.mp4", clip), (f"b/{IDS[0]}.mp4", b"other")])
    archive = open_archive(path, IDS, tmp_path / "clips", key_of)
    assert archive.skipped == {"second copy": 1}
    archive.copy_out(IDS[0], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == clip


# Pictures with sounds --------------------------------------------------------------------------------------


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    """Write the layout of Flickr-SoundNet's annotated archive."""
    root = tmp_path / "Flickr"
    (root / "Annotations").mkdir(parents=True)
    for number, clip_id in enumerate(["10000130166", "3908875350", "2345678901"]):
        folder = root / "Data" / str(number)
        folder.mkdir(parents=True)
        picture = Image.fromarray(np.full((48, 64, 3), 60 + 40 * number, np.uint8))
        picture.save(folder / f"{clip_id}.jpg", quality=95)
        time = np.arange(4 * 16000) / 16000
        soundfile.write(folder / f"{clip_id}.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 16000)
        (root / "Annotations" / f"{clip_id}.xml").write_text("<root/>")
    (root / "Data" / "2" / "2345678901.wav").unlink()
    return root


@pytest.mark.parametrize("packed", [False, True, "gz"])
def test_pictures_with_sounds_become_clips(tmp_path: Path, stills: Path, packed: bool | str) -> None:
    import av

    ids = ["10000130166", "2345678901", "3908875350"]
    clips = [CatalogClip(clip_id, clip_id, f"folder:///{clip_id}", 0.0, None, "", "test") for clip_id in ids]
    write_catalog(clips, "flickr_soundnet", 1, tmp_path / "catalog.parquet")
    out = tmp_path / "clips" / "0000"
    if packed:
        with tarfile.open(tmp_path / "a.tar", "w:gz" if packed == "gz" else "w") as tar:
            tar.add(stills, "Flickr")
        archive = open_archive(tmp_path / "a.tar", ids, tmp_path / "clips", key_of)
        way: FromArchives | FromFolder = FromArchives([archive], out)
    else:
        way = FromFolder.of(stills, out)
    counts = download_bucket(read_bucket(tmp_path / "catalog.parquet", 0), way, tmp_path / "l.parquet")
    assert counts == {"ok": 2, "missing": 1, "resumed": 0}
    row = read_ledger(tmp_path / "l.parquet")[2]
    facts = verify(Path(str(row.path)), 3.9)
    assert (facts.width, facts.height, row.duration_s) == (64, 48, pytest.approx(4.0))
    with av.open(str(row.path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    original = (stills / "Data" / "1" / "3908875350.jpg").read_bytes()
    assert packets == [original] * 4  # bit for bit
    assert {path.name for path in out.rglob("*")} == {"10000130166.mkv", "3908875350.mkv"}


def test_a_part_of_a_sound(tmp_path: Path, stills: Path) -> None:
    url = "folder:///Data/1/3908875350.jpg?audio=Data/0/10000130166.wav"
    clips = [
        CatalogClip("one", "one", url, 1.0, 3.0, "", "test"),
        CatalogClip("two", "two", url, 9.0, 11.0, "", "test"),
        CatalogClip("three", "three", url.replace("Data/1", "Data/7"), 0.0, 1.0, "", "test"),
    ]
    counts = download_bucket(clips, FromFolder.of(stills, tmp_path / "clips"), tmp_path / "l.parquet")
    assert counts == {"ok": 1, "too_short": 1, "missing": 1, "resumed": 0}
    assert verify(tmp_path / "clips" / "one.mkv").audio_s == pytest.approx(2.0)


def test_a_picture_never_stands_for_a_video(tmp_path: Path, stills: Path) -> None:
    clips = [CatalogClip("3908875350", "3908875350", "https://a.org/x.mp4", 0.0, None, "", "test")]
    counts = download_bucket(clips, FromFolder.of(stills, tmp_path / "clips"), tmp_path / "l.parquet")
    assert counts == {"missing": 1, "resumed": 0}


def test_a_damaged_picture_is_told(tmp_path: Path, stills: Path) -> None:
    (stills / "Data" / "1" / "3908875350.jpg").write_bytes(b"no picture")
    (stills / "Data" / "0" / "10000130166.wav").write_bytes(b"no sound")
    ids = ["10000130166", "3908875350"]
    clips = [CatalogClip(clip_id, clip_id, f"folder:///{clip_id}", 0.0, None, "", "test") for clip_id in ids]
    counts = download_bucket(clips, FromFolder.of(stills, tmp_path / "clips"), tmp_path / "l.parquet")
    assert counts == {"damaged": 2, "resumed": 0}
    assert files_in(tmp_path / "clips") == set()
