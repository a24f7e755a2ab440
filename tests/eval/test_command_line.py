"""What a person sees of the commands: interruption, width, progress, options that would change nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsl_eval import Accumulator, cli_score, evaluate, evaluate_all
from avsl_eval.__main__ import main
from avsl_eval.cli_score import progress_line
from avsl_eval.errors import EvalInputError
from avsl_eval.options import clips_of_subsets, read_names
from avsl_eval.result import versions
from tests.eval.conftest import BOXES


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"clip{k:05}" for k in range(4000)]  # some ten seconds under all rules
    heatmaps = np.random.default_rng(0).random((len(ids), 14, 14), dtype=np.float32)
    np.savez(tmp_path / "p.npz", clip_id=np.array(ids), heatmap=heatmaps)
    clips = [{"clip_id": i, "boxes": [[0.1, 0.1, 0.6, 0.7]]} for i in ids]
    content = {"schema": "avsl-annotations/1", "truth": "union", "clips": clips}
    (tmp_path / "a.json").write_text(json.dumps(content))
    paths = ["--predictions", str(tmp_path / "p.npz"), "--annotations", str(tmp_path / "a.json")]
    killer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    killer.start()
    done = main(["score", *paths, "--protocol", "all", "--workers", "2", "--out", str(tmp_path / "s.json")])
    killer.join()
    assert done == 130
    assert capsys.readouterr().err.endswith("avsl-eval: interrupted; no file is half-written\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "p.npz"]


def test_what_score_prints_fits_a_page_and_names_its_files(
    predictions: Path, annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.json"
    paths = ["--predictions", str(predictions), "--annotations", str(annotations), "--out", str(out)]
    assert main(["score", *paths, "--protocol", "all"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert last == f"wrote {out} and {out.with_suffix('.csv')}"


def test_progress_in_a_log_is_a_line_at_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = progress_line()
    quick(5, 10)
    quick(10, 10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cli_score, "_SLOW_S", 0)
    monkeypatch.setattr(cli_score, "_LINE_S", 0)
    slow = progress_line()
    slow(5, 10)
    slow(10, 10)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("5 of 10 clips, ")
    assert second == "10 of 10 clips"


@pytest.mark.parametrize(("columns", "bar"), [(200, True), (60, True), (46, False), (20, False)])
def test_progress_on_a_terminal_is_one_line(
    columns: int, bar: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(cli_score, "_SLOW_S", 0)
    monkeypatch.setattr(cli_score, "_BAR_S", 0)
    show = progress_line()
    show(5, 10)
    show(10, 10)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    drawn = said.removesuffix("\n").split("\r")[1:]
    assert [len(line) < columns for line in drawn] == [True, True]
    assert [line.startswith("[#") for line in drawn] == [bar, bar]


@pytest.mark.parametrize(
    ("option", "protocol"),
    [
        (["--negative", "silence=predictions.npz"], "vssl-eval"),
        (["--universal", "0.5"], "vssl-eval"),
        (["--official-batch", "2"], "avsbench"),
    ],
)
def test_an_option_that_no_rule_reads_is_refused(
    option: list[str], protocol: str, predictions: Path, annotations: Path, command: Any
) -> None:
    paths = ["--predictions", predictions.name, "--annotations", annotations.name, "--out", "s.json"]
    done = command("score", *paths, "--protocol", "lvs", *option, cwd=predictions.parent)
    assert done.returncode == 2
    assert done.stderr == (
        f"avsl-eval: error: {option[0]} is for {protocol}, which is not among the protocols; add it, or "
        "leave the option out\n"
    )
    assert not (predictions.parent / "s.json").exists()


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_numbers_of_at_least_one(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["score", "--workers", text])
    assert f"{text!r} is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spelling", ["aaaaaaaaaaa_000030.jpg", "aaaaaaaaaaa_30000_40000", "aaaaaaaaaaa,30", "aaaaaaaaaaa_000030"]
)
def test_a_subset_may_spell_ids_as_published_lists_do(spelling: str, tmp_path: Path) -> None:
    listed = tmp_path / "heard.txt"
    listed.write_text(f"{spelling}\n-bb_bbbbbbb_000040\nunknown_000000\n")
    found = clips_of_subsets(list(BOXES), [""] * 3, {"heard": read_names(listed)})
    assert found == {"heard": ["aaaaaaaaaaa_000030", "-bb_bbbbbbb_000040", "unknown_000000"]}


def test_a_subset_that_is_no_list_is_quoted_in_short(
    predictions: Path, annotations: Path, tmp_path: Path
) -> None:
    (tmp_path / "no.txt").write_text("x" * 100_000)
    subsets = {"heard": read_names(tmp_path / "no.txt")}
    with pytest.raises(EvalInputError, match="subset 'heard' has no clip of the test set") as error:
        evaluate_all(predictions, annotations, "lvs", subsets=subsets)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("call", [Accumulator, lambda none: evaluate_all({}, {}, none)])
def test_no_protocol(call: Any) -> None:
    with pytest.raises(EvalInputError, match="no protocol is named; known: lvs"):
        call([])


@pytest.mark.parametrize(
    ("predictions", "annotations", "protocol", "message"),
    [
        (None, BOXES, "lvs", "predictions are None, not a path or a mapping from clip id to heatmap"),
        (["x"], BOXES, "lvs", r"predictions are of type list.*dict\(zip\(clip_ids, heatmaps\)\)"),
        (
            {"a": np.eye(3)},
            None,
            "lvs",
            "annotations are None, not a path or a mapping",
        ),
        (
            {"a": np.eye(3)},
            [[0, 0, 1, 1]],
            "lvs",
            r"annotations are of type list.*dict\(zip\(clip_ids",
        ),
        ({}, {}, 5, "the protocol is of type int, not a name or a Protocol"),
        ({}, {}, ["lvs", "fixed"], "the protocol is of type list.*for several: evaluate_all"),
    ],
)
def test_what_is_neither_path_nor_mapping_nor_name(
    predictions: Any, annotations: Any, protocol: Any, message: str
) -> None:
    with pytest.raises(EvalInputError, match=message):
        evaluate(predictions, annotations, protocol)


@pytest.mark.parametrize("protocols", [5, ["lvs", 5]])
def test_what_is_no_name_of_a_protocol(protocols: Any) -> None:
    with pytest.raises(EvalInputError, match="a protocol is of type int, not a name or a Protocol; known"):
        evaluate_all({}, {}, protocols)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"avsl-eval {versions()['avsl-toolkit']}\n"


@pytest.mark.parametrize("command_line", ["score --protocol lvs", "sources --protocol htf"])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("/proc/s.json", "cannot write /proc/s.json: "),
        ("/proc/new/s.json", "cannot write /proc/new/s.json: "),
        ("a_file/new/s.json", "cannot write into a_file: it is a file, not a folder"),
        (".", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_anything_is_read(
    command_line: str,
    out: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    paths = ["--predictions", "gone.npz", "--annotations", "gone.json", "--out", out]
    assert main([*command_line.split(), *paths]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


def test_the_message_names_the_file_that_was_asked_for(
    predictions: Path, annotations: Path, command: Any
) -> None:
    (predictions.parent / "file").write_text("")
    paths = ["--predictions", predictions.name, "--annotations", annotations.name, "--protocol", "lvs"]
    for out, said in (
        ("/proc/version_of_mine.json", "cannot write /proc/version_of_mine"),
        ("file/s.json", "cannot write into file: it is a file, not a folder"),
    ):
        done = command("score", *paths, "--out", out, cwd=predictions.parent)
        assert done.returncode == 2
        assert said in done.stderr
        assert ".part" not in done.stderr


def test_a_list_of_clips_is_no_test_set(predictions: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "pairs.csv").write_text("video,audio,label\n")
    paths = ["--predictions", str(predictions), "--annotations", str(tmp_path / "pairs.csv")]
    assert main(["score", *paths, "--protocol", "lvs", "--out", str(tmp_path / "s.json")]) == 2
    assert "a list of clips changes a test set: --only or --extended" in capsys.readouterr().err


def test_a_suite_is_not_a_protocol(predictions: Path, annotations: Path) -> None:
    with pytest.raises(
        EvalInputError, match=r"strict is a suite of protocols, .*: strict-median, strict-adaptive"
    ):
        evaluate(predictions, annotations, "strict")
