"""Comparisons: hand-computed, against a slow independent one, what is refused, and the command."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsl_eval.__main__ import main
from avsl_eval.compare import MethodClips, compare, compare_pair, compare_pairs
from avsl_eval.errors import EvalInputError
from avsl_eval.pooling import METRICS
from avsl_eval.results_file import read_named, read_results
from tests.eval.handmade import write_scores


def clips(name: str, values: list[float], predicted: list[bool] | None = None, start: int = 0) -> MethodClips:
    """Return a method all of whose metrics are the given values."""
    n = len(values)
    return MethodClips(
        name,
        tuple(f"c{start + k}" for k in range(n)),
        tuple("even" if (start + k) % 2 == 0 else "odd" for k in range(n)),
        np.linspace(0.01, 0.5, n),
        np.array(predicted or [True] * n),
        np.repeat(np.array(values, dtype=float)[:, None], len(METRICS), axis=1),
    )


def test_a_pair_by_hand() -> None:
    pair = compare_pair(clips("a", [0, 0, 1, 1, 0]), clips("b", [1, 1, 1, 0, 1]))
    found = pair["metrics"]["ciou@0.5"]
    assert (pair["first"], pair["second"], pair["n"]) == ("a", "b", 5)
    assert (found["first"], found["second"], found["difference"]) == (0.4, 0.8, pytest.approx(0.4))
    # Differences 1 1 0 -1 1: of 16 sign patterns, sums of size 2 or more come from 10 (4: 2, 2: 8).
    assert found["p"] == 10 / 16
    assert found["ci95"][0] <= 0.4 <= found["ci95"][1]
    by_class = {row["name"]: (row["n"], row["metrics"]["auc"]["difference"]) for row in pair["by_class"]}
    assert by_class == {"even": (3, pytest.approx(2 / 3)), "odd": (2, 0.0)}
    # Areas .01 .1325 .255 .3775 .5 of 224 x 224 pixels; bounds at 32, 96 and 144 squared.
    by_size = [(row["name"], row["n"]) for row in pair["by_size"]]
    assert by_size == [("small", 1), ("medium", 1), ("large", 2), ("huge", 1)]
    assert [c["clip_id"] for c in pair["clips"]["second_better"]] == ["c0", "c1", "c4"]
    assert [c["clip_id"] for c in pair["clips"]["first_better"]] == ["c3"]
    assert pair["clips"]["first_better"][0] == {
        **{"clip_id": "c3", "label": "odd", "first": 1.0, "second": 0.0, "difference": -1.0}
    }


def test_only_common_clips_count() -> None:
    a = clips("a", [1, 1, 1, 0], [True, False, True, False])
    b = clips("b", [0, 0, 0, 1], [True, True, True, True], start=1)
    pair = compare_pair(a, b)  # a predicted c0 c2, b predicted c1 c2 c3 c4
    assert pair["n"] == 1
    assert pair["not_common"] == {"n": 4, "only_first": 1, "only_second": 3, "neither": 0}
    assert pair["metrics"]["auc"]["difference"] == -1.0
    assert pair["metrics"]["auc"]["p"] == 1.0  # one clip says nothing
    pair = compare_pair(a, clips("c", [0, 0, 1], [True, False, False]))
    assert pair["not_common"] == {"n": 3, "only_first": 1, "only_second": 0, "neither": 2}
    with pytest.raises(EvalInputError, match="a and d have no predicted clip in common"):
        compare_pair(a, clips("d", [0.5], start=9))


def test_identical_methods_do_not_differ() -> None:
    values = np.random.default_rng(0).random(30).tolist()
    pair = compare_pair(clips("a", values), clips("b", values))
    for metric in METRICS:
        found = pair["metrics"][metric]
        assert (found["difference"], found["p"], found["ci95"]) == (0.0, 1.0, [0.0, 0.0])
    assert pair["clips"] == {"second_better": [], "first_better": []}


def test_the_family_of_the_correction_is_all_pairs() -> None:
    rng = np.random.default_rng(1)
    methods = [
        clips(name, (rng.random(40) + shift).tolist())
        for name, shift in zip("abc", (0, 0.1, 0.3), strict=True)
    ]
    pairs = compare_pairs(methods)
    assert [(p["first"], p["second"]) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    p = sorted(pair["metrics"]["auc"]["p"] for pair in pairs)
    expected = [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    assert sorted(pair["metrics"]["auc"]["p_holm"] for pair in pairs) == pytest.approx(
        [min(1.0, e) for e in expected]
    )
    assert compare_pairs(methods[:2])[0]["metrics"]["auc"]["p_holm"] == pairs[0]["metrics"]["auc"]["p"]


def slow_comparison(a: list[float | None], b: list[float | None]) -> dict[str, Any] | None:
    """Compare cIoU@0.5 and mean cIoU by plain loops, the p value by enumeration."""
    common = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not common:
        return None
    found: dict[str, Any] = {"n": len(common)}
    for metric in ("ciou@0.5", "mean_iou"):
        differences = []
        for x, y in common:
            if metric == "ciou@0.5":
                differences.append(float(y >= 0.5) - float(x >= 0.5))
            else:
                differences.append((0.0 if math.isnan(y) else y) - (0.0 if math.isnan(x) else x))
        reached = total = 0
        for signs in itertools.product((1, -1), repeat=len(differences)):
            total += 1
            s = math.fsum(sign * d for sign, d in zip(signs, differences, strict=True))
            reached += abs(s) >= abs(math.fsum(differences)) - 1e-9
        found[metric] = (math.fsum(differences) / len(common), reached / total)
    return found


ciou_values = st.lists(
    st.one_of(st.none(), st.just(math.nan), st.integers(0, 20).map(lambda v: v / 20)), min_size=8, max_size=8
)


@settings(max_examples=40, deadline=None)
@given(ciou_values, ciou_values)
def test_files_against_a_slow_comparison(
    tmp_path_factory: pytest.TempPathFactory, a: list[float | None], b: list[float | None]
) -> None:
    folder = tmp_path_factory.mktemp("c")
    files = [
        write_scores(folder / f"{name}.json", {"lvs": v}, n_silent=2) for name, v in (("a", a), ("b", b))
    ]
    expected = slow_comparison(a, b)
    results = [read_results(file) for file in files]
    if expected is None:
        with pytest.raises(EvalInputError, match="no predicted clip in common"):
            compare(results)
        return
    (pair,) = compare(results)["subsets"]["all"]["lvs"]["pairs"]
    assert pair["n"] == expected["n"]
    assert pair["not_common"]["n"] == 8 - expected["n"]
    for metric in ("ciou@0.5", "mean_iou"):
        difference, p = expected[metric]
        assert pair["metrics"][metric]["difference"] == pytest.approx(difference, abs=1e-12)
        assert pair["metrics"][metric]["p"] == pytest.approx(p)


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Write scores of three methods on 40 clips under two protocols; b lacks two clips."""
    rng = np.random.default_rng(0)
    base = rng.random(40)
    files = []
    for name, shift in (("a", 0.0), ("b_1", 0.15), ("c", 0.3)):
        values: list[float | None] = np.clip(base + shift + 0.1 * rng.normal(size=40), 0, 1).tolist()
        if name == "b_1":
            values[3] = values[7] = None
        files.append(write_scores(tmp_path / f"{name}.json", {"lvs": values, "fixed": values[::-1]}))
    return files


def test_the_command(three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "comparison.json"
    assert main(["compare", *map(str, three), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["schema"] == "avsl-comparison/1"
    assert [m["name"] for m in content["methods"]] == ["a", "b_1", "c"]
    assert list(content["subsets"]["all"]) == ["lvs", "fixed"]
    found = content["subsets"]["all"]["lvs"]["pairs"][1]["metrics"]["ciou@0.5"]
    low, high = (f"{100 * v:+.2f}" for v in found["ci95"])
    interval = re.escape(f"[{low}, {high}]")
    assert re.search(re.escape(f"{100 * found['difference']:+.2f}") + " +" + interval, text)
    assert "t, all: rule lvs v1\n" in text
    assert "lvs: half of the image: p above the median" in text
    assert max(map(len, text.splitlines())) <= 110
    assert "p (Holm)" in text
    assert (
        "a and b_1: 2 clips are not common and left out (2 only a predicted, 0 only b_1, 0 neither)." in text
    )
    assert "by clip" not in text  # details of three methods only where asked for
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_details_and_formats(three: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    two = [str(three[0]), f"other={three[1]}"]
    assert main(["compare", *two, "--protocol", "strict", "--metric", "auc"]) == 0
    text = capsys.readouterr().out
    assert "t, all: rule fixed v1, where other differs from a, by size and class" in text
    assert text.count("Nothing here is tested.") == 2
    assert "by clip" in text
    assert "rule lvs" not in text
    assert "p (Holm)" not in text
    assert main(["compare", *two]) == 0
    assert "by clip" not in capsys.readouterr().out  # two rules: too much, unless asked for
    assert main(["compare", *two, "--protocol", "lvs", "--latex", "--no-details"]) == 0
    latex = capsys.readouterr().out
    assert latex.count(r"\begin{tabular}{lllrrrrrr}") == latex.count(r"\bottomrule") == 1
    assert main(["compare", *map(str, three), "--protocol", "lvs", "--markdown", "--details"]) == 0
    markdown = capsys.readouterr().out
    assert "| a | b\\_1 |" in markdown
    assert markdown.count("by clip") == 3


def test_published_figures_stand_apart_and_under_their_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write_scores(tmp_path / f"{name}.json", {"ezvsl": [0.6], "fixed": [0.6]})) for name in "ab"]
    assert main(["compare", *files, "--published", "vggss", "--no-details"]) == 0
    tests, published = capsys.readouterr().out.split("Published figures\n")
    assert "38.85" not in tests
    assert "ezvsl  EZ-VSL  vggsound-144k  vggss" in published
    assert main(["compare", *files, "--protocol", "fixed", "--published", "vggss"]) == 2
    assert "no figure for ciou@0.5 on vggss was published under fixed" in capsys.readouterr().err


def test_seeds_are_averaged_per_clip(tmp_path: Path) -> None:
    for seed, values in enumerate(([0.6, 0.2, 0.6], [0.2, 0.2, None])):
        write_scores(tmp_path / f"seed{seed}/all.json", {"lvs": values})
    scores = [str(tmp_path / f"seed{seed}/all.json") for seed in (0, 1)]
    out = str(tmp_path / "m.json")
    assert main(["collect", "--name", "m", "--testset", "t", "--scores", *scores, "--out", out]) == 0
    write_scores(tmp_path / "other.json", {"lvs": [0.6, 0.6, 0.6]})
    content = compare([read_results(Path(out)), read_results(tmp_path / "other.json")])
    assert [m["n_seeds"] for m in content["methods"]] == [2, 1]
    (pair,) = content["subsets"]["all"]["lvs"]["pairs"]
    assert (pair["n"], pair["not_common"]["only_second"]) == (2, 1)  # every seed must have predicted
    assert pair["metrics"]["ciou@0.5"]["first"] == 0.25  # clip 0: one of two seeds, clip 1: none
    assert pair["metrics"]["mean_iou"]["first"] == pytest.approx(0.3)


def test_names_of_methods(three: list[Path], tmp_path: Path) -> None:
    assert read_named(str(three[0])).name == "a"
    assert read_named(f"x y={three[0]}").name == "x y"
    odd = write_scores(tmp_path / "k=v.json", {"lvs": [0.5]})
    assert read_named(str(odd)).name == "k=v"
    with pytest.raises(EvalInputError, match=r"a is the name of several methods; .* NAME=PATH"):
        compare([read_results(three[0])] * 2)
    with pytest.raises(EvalInputError, match="two methods or more"):
        compare([read_results(three[0])])


def test_what_does_not_belong_together_is_refused(three: list[Path], tmp_path: Path) -> None:
    a = read_results(three[0])
    values = [0.5] * 40

    def other(**changes: Any) -> Any:
        return read_results(write_scores(tmp_path / "o.json", {"lvs": values}, **changes))

    with pytest.raises(
        EvalInputError, match=r"different annotations \(a: 40 clips, o: 40 clips, subset all\)"
    ):
        compare([a, other(sha256="another")])
    with pytest.raises(EvalInputError, match=r"different rules named lvs: comparison, version differ"):
        compare([a, other(changed_rule={"comparison": ">=", "version": 9})])
    compare([a, other(changed_rule={"missing": "zero"})])  # clips that are missing take no part
    with pytest.raises(EvalInputError, match="unknown protocol of these scores 'lsv'; did you mean 'lvs'"):
        compare([a, other()], ["lsv"])
    with pytest.raises(
        EvalInputError, match="share a subset and a protocol among strict: a has all under lvs"
    ):
        compare([a, other()], ["strict"])
    ezvsl = read_results(write_scores(tmp_path / "e.json", {"ezvsl": values}))
    with pytest.raises(
        EvalInputError, match=r"no two methods share .*: a has all under lvs, fixed; e has all"
    ):
        compare([a, ezvsl])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json"], "two methods or more"),
        (["a.json", "nowhere.json"], "cannot read nowhere.json"),
        (["a.json", "c.json", "--metric", "acu"], "unknown metric 'acu'; did you mean 'auc'"),
        (["a.json", "c.json", "--out", "a.json"], "named twice"),
        (["a.json", "a.csv"], "a.csv is not JSON"),
    ],
)
def test_bad_arguments(
    three: list[Path],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(three[0].parent)
    before = sorted(Path().iterdir())
    assert main(["compare", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert sorted(Path().iterdir()) == before


def test_a_damaged_table_is_named(three: list[Path]) -> None:
    table = three[0].with_suffix(".csv")
    lines = table.read_text().splitlines()
    results = [read_results(file) for file in three[:2]]
    for content, message in (
        ("\n".join(line for line in lines if not line.startswith("fixed")), "no row of protocol fixed"),
        (lines[0].replace("ciou", "x") + "\n" + lines[1], "lacks ciou"),
        ("\n".join(lines[:9]), "scores of a under lvs are of different evaluations"),
        (lines[0], "has no row"),
        ("", "is not a table"),
        ("\n".join([*lines[:3], "lvs,x"]), "line 4: 2 cells under 10 names"),
        ("\n".join([lines[0], lines[1].replace(",1,0.25,", ",1,wide,")]), "could not convert"),
    ):
        table.write_text(content)
        with pytest.raises(EvalInputError, match=message):
            compare(results)
    table.unlink()
    with pytest.raises(EvalInputError, match=rf"cannot read {table}.*--per-clip {table}"):
        compare(results)
