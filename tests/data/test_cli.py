"""Commands: help with an example, one message and code 2 on bad input, nothing written."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import avsl_data
from avsl_data.__main__ import main
from avsl_data.files import replacing
from avsl_data.recipes import RECIPES

COMMANDS = (
    "render",
    "catalog",
    "annotations",
    "download",
    "preprocess",
    "check",
    "split",
    "frames",
    "audit",
    "describe",
    "pair",
    "hub",
    "sheet",
    "dataset",
    "status",
)


def _run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _run(command, "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    example = text.split("example:\n")[1].split()
    assert example[:2] == ["avsl-data", command]
    from avsl_data.__main__ import _parser

    assert _parser().parse_args(example[1:]).command == command
    if command == "split":
        unwrapped = "".join(text.split())
        assert all(name in unwrapped for name in RECIPES)


def test_the_whole_line(tiny_site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog, split, boxes = (
        tmp_path / "catalog.parquet",
        tmp_path / "splits" / "semi.parquet",
        tmp_path / "a.json",
    )
    ledger, shards, out = tmp_path / "ledger", tmp_path / "shards", tmp_path / "frames"
    assert _run("catalog", "demo", "--site", tiny_site, "--buckets", 2, "--out", catalog) == 0
    assert _run("split", "demo-semi", "--catalog", catalog, "--labels", "50%", "--out", split) == 0
    assert _run("annotations", "demo", "--site", tiny_site, "--out", boxes) == 0
    part = ("--split", split, "--subset", "labeled,val", "--out", tmp_path / "part.json")
    assert _run("annotations", "demo", "--site", tiny_site, *part) == 0
    assert len(json.loads((tmp_path / "part.json").read_text())["clips"]) == 3 + 3
    for bucket in range(2):
        name = f"{bucket:04d}.parquet"
        source = (
            "--catalog",
            catalog,
            "--bucket",
            bucket,
            "--clips",
            tmp_path / "clips",
            "--site",
            tiny_site,
        )
        assert _run("download", *source, "--ledger", ledger / name) == 0
        tables = (
            "--ledger",
            ledger / name,
            "--catalog",
            catalog,
            "--annotations",
            boxes,
            "--out",
            shards / name,
        )
        assert _run("preprocess", *tables, "--frame-time", 0.4, "--short-side", 64, "--workers", 2) == 0
    ids = pq.read_table(shards).column("clip_id").to_pylist()
    assert len(ids) == 12
    (tmp_path / "ids.txt").write_text("\n".join(ids[:3]))
    assert _run("frames", "--shards", shards, "--ids", tmp_path / "ids.txt", "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{clip_id}.jpg" for clip_id in ids[:3])
    said = capsys.readouterr()
    assert "12 clips of 4 videos in 2 buckets" in said.out
    assert said.err == ""


def test_bad_input_has_one_message_and_code_2(
    tiny_site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = tmp_path / "in" / "catalog.parquet"
    _run("catalog", "demo", "--site", tiny_site, "--buckets", 2, "--out", catalog)
    (tmp_path / "in" / "ids.txt").write_text("abc_000000\n")
    (tmp_path / "in" / "bad.txt").write_text("../../x\n")
    text = tmp_path / "in" / "text.parquet"
    text.write_text("no parquet")
    other = tmp_path / "in" / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    newer = tmp_path / "in" / "newer.parquet"
    pq.write_table(
        pq.read_table(catalog).replace_schema_metadata({"avsl": '{"schema": "avsl-catalog/2"}'}), newer
    )
    capsys.readouterr()
    out = tmp_path / "out" / "x.parquet"
    get = ("--clips", tmp_path / "out", "--ledger", out)
    cases: dict[str, tuple[object, ...]] = {
        "unknown source 'vgss': did you mean 'vggss'": ("catalog", "vgss", "--buckets", 1, "--out", out),
        "--buckets 0 is not in": ("catalog", "demo", "--site", tiny_site, "--buckets", 0, "--out", out),
        "unknown recipe 'demo-sem': did you mean 'demo-semi'": (
            "split",
            "demo-sem",
            "--catalog",
            catalog,
            "--out",
            out,
        ),
        "--labels '1.5' is no budget": (
            "split",
            "demo-semi",
            "--catalog",
            catalog,
            "--labels",
            "1.5",
            "--out",
            out,
        ),
        "absent.parquet does not exist: run `avsl-data catalog`": (
            "split",
            "demo-semi",
            "--catalog",
            tmp_path / "absent.parquet",
            "--out",
            out,
        ),
        "is no readable Parquet file": ("split", "demo-semi", "--catalog", text, "--out", out),
        "lacks the column clip_id": ("split", "demo-semi", "--catalog", other, "--out", out),
        "is of format avsl-catalog/2, expected avsl-catalog/1": (
            "split",
            "demo-semi",
            "--catalog",
            newer,
            "--out",
            out,
        ),
        "--split and --subset belong together": (
            "annotations",
            "demo",
            "--site",
            tiny_site,
            "--subset",
            "a",
            "--out",
            out,
        ),
        "has the buckets 0 to 1, not 2": ("download", "--catalog", catalog, "--bucket", 2, *get),
        "add --site DIR": ("download", "--catalog", catalog, "--bucket", 0, *get),
        "holds no finished site": ("download", "--catalog", catalog, "--bucket", 0, *get, "--site", tmp_path),
        "--from-folder .* is no folder": (
            "download",
            "--catalog",
            catalog,
            "--bucket",
            0,
            *get,
            "--from-folder",
            text,
        ),
        "--attempts 0: must be a whole number, at least 1": (
            "download",
            "--catalog",
            catalog,
            "--bucket",
            0,
            *get,
            "--attempts",
            0,
        ),
        "run `avsl-data download` first": ("preprocess", "--ledger", out, "--catalog", catalog, "--out", out),
        "6 videos leave none for training": ("render", "--out", tmp_path / "out", "--videos", 6),
        "holds no shards": (
            "frames",
            "--shards",
            tmp_path,
            "--ids",
            tmp_path / "in" / "ids.txt",
            "--out",
            tmp_path / "out",
        ),
        "is no clip id": (
            "frames",
            "--shards",
            tmp_path,
            "--ids",
            tmp_path / "in" / "bad.txt",
            "--out",
            tmp_path / "out",
        ),
    }
    for message, arguments in cases.items():
        assert _run(*arguments) == 2, message
        error = capsys.readouterr().err
        assert re.fullmatch(rf"avsl-data: error: .*{message}.*\n", error), error
        # What a download leaves on the way, its lock, is no result.
        assert not [
            path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".lock"
        ]


def test_bad_arguments_have_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _run("catalog", "vggss", "--out", "x")
    assert ended.value.code == 2
    expected = (
        "avsl-data: error: the following arguments are required: --buckets (see `avsl-data catalog --help`)\n"
    )
    assert capsys.readouterr().err == expected


def test_a_stopped_download_has_code_3(
    tmp_path: Path, make_catalog: object, serve: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(make_catalog)
    assert callable(serve)
    catalog = make_catalog({"video000000": 1})
    (tmp_path / "site").mkdir()
    server = serve(tmp_path / "site")
    server.statuses = {"/videos/video000000.mp4": [429]}
    flags = ("--clips", tmp_path / "clips", "--ledger", tmp_path / "l.parquet", "--base-url", server.base_url)
    assert _run("download", "--catalog", catalog, "--bucket", 0, *flags) == 3
    assert re.fullmatch(
        r"avsl-data: stopped: .*429.*\. The same command continues after 2.* UTC, in 1 h "
        r"\(with --now: at once\)\.\n",
        capsys.readouterr().err,
    )


def test_importing_and_help_are_quick_and_light() -> None:
    code = (
        "import sys, avsl_data.__main__ as m\n"
        "try: m.main(['download', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'datasets', 'yt_dlp', 'av', 'numpy', 'pyarrow', 'ffmpeg', 'PIL'} "
        "& set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")

    def fail_half_way() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "before")]


@pytest.mark.parametrize("out", ["/proc/none/c.parquet", f"{'a' * 300}.parquet"])
def test_a_place_that_cannot_be_written_is_one_message(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_000000.mp4").touch()
    path = Path(out) if out.startswith("/") else tmp_path / out
    assert _run("catalog", "folder", "--clips", tmp_path, "--buckets", 1, "--out", path) == 2
    message = capsys.readouterr().err
    assert re.fullmatch(r"avsl-data: error: .*: .*: is the path right\?\n", message)
    assert [path.name for path in tmp_path.iterdir()] == ["a_000000.mp4"]


@pytest.mark.parametrize(
    "name", sorted(module.name for module in pkgutil.walk_packages(avsl_data.__path__, "avsl_data."))
)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"avsl-data {version('avsl-toolkit')}\n"
