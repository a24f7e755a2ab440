"""Lists as people have them: every spelling, every damage, one message with file and line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsl_data.errors import DataInputError
from avsl_data.id_lists import read_list, read_vggsound_table
from avsl_data.ids import is_number, normalise
from avsl_data.sources.published import read_vggsound_csv

GOOD = "n88E2blrCiU_000001"
VIDEO_IDS = st.text("abcXYZ019-_", min_size=11, max_size=11)


def _write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(
    st.lists(st.tuples(VIDEO_IDS, st.integers(0, 999_999), st.integers(0, 5)), min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_every_spelling_gives_one_id(
    tmp_path_factory: pytest.TempPathFactory,
    clips: list[tuple[str, int, int]],
    end: str,
    final: bool,
    mark: bool,
) -> None:
    def spelled(video: str, start: int, spelling: int) -> str:
        return [
            f"{video}_{start:06d}",
            f"{video}_{start * 1000}_{start * 1000 + 10_000}",
            f"{video},{start}",
            f"{video}_{start:06d}.mp4",
            f'{video}_{start:06d},"dog, barking"',
            f"{video},{start},dog,train",
        ][spelling]

    text = end.join(spelled(*clip) for clip in clips) + (end if final else "")
    folder = tmp_path_factory.mktemp("list")
    path = _write(folder / "list.txt", (b"\xef\xbb\xbf" if mark else b"") + text.encode())
    found = read_list(path)
    assert found.ids.to_pylist() == [f"{video}_{start:06d}" for video, start, _ in clips]
    labels = {4: "dog, barking", 5: "dog"}
    assert found.labels.to_pylist() == [labels.get(spelling, "") for *_, spelling in clips]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: was it fetched"),
        ("\r\n \n", "is empty"),
        (b"PK\x03\x04\0\0", "line 1: holds a NUL byte"),
        (f"{GOOD}\n{GOOD}\0\n", "line 2: holds a NUL byte"),
        (GOOD.encode("utf-16"), "is UTF-16 text"),
        (f"{GOOD}\n".encode() + b"\xff\xfe\n", "line 2: is no UTF-8 text"),
        ("<!DOCTYPE html>\n<html></html>", "is an HTML page.*failed download"),
        ("\n\n <HTML>", "is an HTML page"),
        (f"{GOOD}\n{'a' * 5000}", "line 2: has 5000 bytes"),
        (f"{GOOD}\n../../etc/passwd_000001", r"line 2: '\.\./\.\./etc/passwd_000001' is no clip id"),
        (f"{GOOD}\n\n/etc/passwd", "line 3: '/etc/passwd' is no clip id"),
        (f"{GOOD}\n--exec", "line 2: '--exec' is no clip id"),
        (f"{GOOD}\n-x", "line 2: '-x' is no clip id"),
        (f"{GOOD}\n$(id)_000001", r"line 2: '\$\(id\)_000001' is no clip id"),
        (f"{GOOD}\n;rm -rf ~", "line 2"),
        (f"{GOOD}\n`id`_000001", "line 2"),
        ("n88E2blrCiU_٠٠٠٠٠١", r"line 1: 'n88E2blrCiU_\\u0660"),
        ("n88E2blrCiU,٣", "line 1"),
        ("１０００００１３０１６６", "line 1"),
        (f"{GOOD}\u2028{GOOD}", "line 1"),
        (f"{GOOD}\x0b", "line 1"),
        (f'"{GOOD}', "line 1: .*quotes"),
        (f"{GOOD},a,b,c,d,e", "line 1: .* has 6 columns"),
        (f"{GOOD},dog\x1b[31m", "line 1: the label .* cannot be printed"),
        ("n88E2blrCiU_30500_40500", "no whole second"),
        (f"{GOOD}\nx\ny\nz", r"line 2: .*\(2 more lines are faulty\)"),
        ("[1, 2", "is no JSON"),
        (b"PAR1 and no more", "no readable Parquet file"),
    ],
)
def test_damaged_lists_have_one_message(content: bytes | str, message: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "list.txt", content)
    with pytest.raises(DataInputError, match=rf"list\.txt.*{message}") as raised:
        read_list(path)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_faults_can_be_listed(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.txt", f"{GOOD}\nrubbish\n\n{GOOD}\r\n!\n")
    found = read_list(path, strict=False)
    assert found.ids.to_pylist() == [GOOD, GOOD]
    assert [(fault.line, fault.text) for fault in found.faults] == [(2, "rubbish"), (5, "!")]


def test_paths_of_media_only_where_asked_for(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.txt", "/hdd/Annotations/dataset/2432219254.mp4\n")
    with pytest.raises(DataInputError, match="line 1"):
        read_list(path)
    assert read_list(path, media_paths=True).ids.to_pylist() == ["2432219254"]
    _write(path, "/hdd/../x/2432219254.mp4")
    with pytest.raises(DataInputError, match="line 1"):
        read_list(path, media_paths=True)


def test_flickr_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.csv", "10000130166,202\r\n10007936344,0\r\n3908875350.wav\n")
    found = read_list(path)
    assert found.ids.to_pylist() == ["10000130166", "10007936344", "3908875350"]
    assert found.labels.to_pylist() == ["", "", ""]
    assert all(is_number(clip_id) for clip_id in found.ids.to_pylist())


def test_a_table_equals_the_slow_way(shared: Path) -> None:
    """The whole of a real table, against Python's own CSV reader."""
    path = shared / "derived" / "vggsound_partial.csv"
    with path.open(newline="", encoding="utf-8") as file:
        slow = [(normalise(f"{row[0]},{row[1]}"), row[2], row[3]) for row in csv.reader(file)]
    assert read_vggsound_csv(path) == slow
    assert read_list(path).ids.to_pylist() == [clip_id for clip_id, *_ in slow]


@given(
    st.lists(st.tuples(VIDEO_IDS, st.integers(0, 999_999), st.sampled_from(["dog", 'a "b", c'])), min_size=1)
)
def test_a_table_keeps_labels(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, str]]
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([(*row, "train") for row in rows])
    found = read_vggsound_table(_write(tmp_path_factory.mktemp("table") / "t.csv", text.getvalue()))
    assert found.to_pylist() == [
        {"clip_id": f"{video}_{start:06d}", "label": label, "split": "train"} for video, start, label in rows
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,b,c,d,e", "line 2: expected video id, start seconds"),
        ("a,b", "line 2: expected"),
        ("n88E2blrCiU,x,dog,train", "line 2: expected"),
        ("n88E2blrCiU,٣,dog,train", "line 2: expected"),
        ("n88E2blrCiU,1000000,dog,train", "line 2: expected"),
        ("../x,1,dog,train", r"line 2: video id '\.\./x'"),
        ('n88E2blrCiU,1,"dog,train', "line 2: expected"),
    ],
)
def test_damaged_tables_name_the_line(line: str, message: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", f'n88E2blrCiU,1,"dog, barking",train\n{line}\n')
    with pytest.raises(DataInputError, match=rf"t\.csv, {message}"):
        read_vggsound_table(path)
