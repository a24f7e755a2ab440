"""Tables of scores, and published figures beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avsl_eval.__main__ import main
from avsl_eval.errors import EvalInputError
from avsl_eval.results_file import read_results
from avsl_eval.tables import score_tables
from tests.eval.handmade import write_scores

RULES = ("lvs", "ezvsl", "fixed", "adaptive", "strict-median")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write scores of two methods on four clips; the second lacks a rule."""
    a = write_scores(tmp_path / "a_1.json", {rule: [0.6, 0.6, 0.1, 0.9] for rule in RULES})
    b = write_scores(tmp_path / "b.json", {rule: [0.2, 0.6, 0.1, 0.1] for rule in RULES[:4]})
    return [a, b]


def test_text_by_hand(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", *map(str, files), "--protocol", "lvs", "fixed"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "t, all: ciou@0.5 under lvs, fixed (4 clips)",
        "method                        lvs v1           fixed v1",
        "-------------------------------------------------------",
        "a_1                75.0 [37.5, 87.5]  75.0 [37.5, 87.5]",
        "b                  25.0 [12.5, 62.5]  25.0 [12.5, 62.5]",
        "-------------------------------------------------------",
        "ceiling            90.0               90.0",
        "centred disc       30.0               30.0",
        "mean ground truth  31.0               31.0",
        "whole image        20.0               20.0",
        "Percent, with 95 % intervals over clips in brackets.",
        "lvs: half of the image: p above the median, saturated pixels join.",
        "fixed: the model's own probabilities: p at or above 0.5.",
    ]


def test_silent_clips_are_not_counted_in(tmp_path: Path) -> None:
    results = read_results(write_scores(tmp_path / "a.json", {"lvs": [0.6, 0.1]}, n_silent=3))
    (table,) = score_tables([results], digits=0)
    assert table.caption == "t, all: ciou@0.5 under lvs (2 of 5 clips, in which something sounds)"
    assert table.blocks[0][0][1].startswith("50 ")


def test_every_header_names_its_rule(files: list[Path]) -> None:
    tables = score_tables([read_results(file) for file in files])
    assert [table.header for table in tables] == [
        ("method", "lvs v1", "ezvsl v1", "fixed v1", "adaptive v1"),
        ("method", "strict-median v1"),
    ]
    for table in tables:
        for rule in table.header[1:]:
            assert rule.split()[0] in table.caption
    assert tables[1].blocks[0][1] == ("b", "-")


def test_latex_and_markdown(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.tex"
    arguments = ["table", *map(str, files), "--protocol", "ezvsl", "--metric", "auc"]
    assert main([*arguments, "--format", "latex", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    latex = out.read_text()
    assert r"\caption{t, all: auc under ezvsl (4 clips)}" in latex
    assert re.search(r"^a\\_1 & 5\d\.\d\d \[\d+\.\d\d, \d+\.\d\d\] \\\\$", latex, re.MULTILINE)
    assert latex.count(r"\midrule") == 2
    assert latex.count(r"\begin") == latex.count(r"\end") == 2
    assert main([*arguments, "--digits", "0"]) == 0
    assert "| ceiling | 90 |" in capsys.readouterr().out


def test_published_figures_stand_apart_and_in_the_column_of_their_rule(files: list[Path]) -> None:
    results = [read_results(file) for file in files]
    (table,) = score_tables(results, protocols=["lvs", "ezvsl"], published="vggss")
    methods, references, published = table.blocks
    assert [row[0] for row in methods] == ["a_1", "b"]
    assert references[0][0] == "ceiling"
    assert all(row[0].startswith("published: ") and row[1] == "-" for row in published)
    assert ("published: EZ-VSL, vggsound-144k [1]", "-", "38.85") in [
        tuple(cell.strip() for cell in row) for row in published
    ]
    # A figure without what its source leaves open would be read as the method's own.
    assert (
        "[1] stoneMo/EZ-VSL README.md, Model Zoo: the README does not say whether the object map is mixed in."
        in table.notes
    )
    assert any("over 5158 clips, the scores above over 4: not the same clips" in note for note in table.notes)


def test_published_figures_of_another_rule_are_refused(files: list[Path]) -> None:
    results = [read_results(file) for file in files]
    with pytest.raises(EvalInputError, match=r"no figure for ciou@0\.5 on vggss was published under fixed"):
        score_tables(results, protocols=["fixed"], published="vggss")
    with pytest.raises(EvalInputError, match="unknown test set 'vgss'; did you mean 'vggss'"):
        score_tables(results, published="vgss")


def test_seeds_are_said(tmp_path: Path) -> None:
    for seed, values in enumerate(([0.6, 0.6], [0.6, 0.1])):
        write_scores(tmp_path / f"seed{seed}/heard.json", {"lvs": values})
    scores = [str(tmp_path / f"seed{seed}/heard.json") for seed in (0, 1)]
    out = str(tmp_path / "m.json")
    assert main(["collect", "--name", "m", "--testset", "t", "--scores", *scores, "--out", out]) == 0
    (table,) = score_tables([read_results(Path(out))], digits=1)
    assert table.blocks[0][0][1].startswith("75.0 ± 35.4 [")
    assert "± is the standard deviation over seeds" in table.notes[0]
    assert table.caption.startswith("t, heard:")


def test_text_fits_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert max(map(len, listed)) <= 100
    for seed, values in enumerate(([0.6, 0.6], [0.6, 0.1])):
        write_scores(tmp_path / f"seed{seed}/heard.json", dict.fromkeys(RULES[:4], values))
    scores = [str(tmp_path / f"seed{seed}/heard.json") for seed in (0, 1)]
    out = str(tmp_path / "m.json")
    assert main(["collect", "--name", "m" * 30, "--testset", "t", "--scores", *scores, "--out", out]) == 0
    capsys.readouterr()
    assert main(["summary", out]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert all(f"{rule} v" in text for rule in RULES[:4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "acu"], "unknown metric of these scores 'acu'; did you mean 'auc'"),
        (["--protocol", "lsv"], "unknown protocol of these scores 'lsv'; did you mean 'lvs'"),
        (["--format", "latx"], "unknown format 'latx'"),
        (["--out", "b.json"], "named twice"),
        (["a_1.json"], "two results have the same name"),
    ],
)
def test_bad_arguments(
    files: list[Path],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files[0].parent)
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert main(["table", "a_1.json", "b.json", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_scores_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scores(tmp_path / "a.json", {"lvs": [0.6, 0.1]})
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(self: Path) -> bytes:
        read.append(self)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert read_results(path).name == "a"
    assert read == [path]


def test_scores_against_other_annotations_have_no_common_table(files: list[Path], tmp_path: Path) -> None:
    other = write_scores(tmp_path / "c.json", {"lvs": [0.5, 0.5, 0.5]}, sha256="other")
    with pytest.raises(EvalInputError, match="different annotations, of 3 and 4 clips"):
        score_tables([read_results(file) for file in (files[0], other)])


def test_a_suite_of_which_nothing_was_scored(files: list[Path], tmp_path: Path) -> None:
    only = read_results(write_scores(tmp_path / "c.json", {"lvs": [0.5]}))
    with pytest.raises(EvalInputError, match="nothing was scored under strict; scored were lvs"):
        score_tables([only], protocols=["strict"])
