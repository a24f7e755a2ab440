"""Tables as text, Markdown and LaTeX: structure and escapes."""

from __future__ import annotations

import doctest
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import avsl_eval.layout
from avsl_eval.errors import EvalInputError
from avsl_eval.layout import Table, escape_latex, escape_markdown, render

TABLE = Table(
    "cIoU@0.5 in percent, rule lvs v1 (3 clips)",
    ("method", "n", "value"),
    ((("a_b & c", "3", "34.5"), ("long name of a method", "10", "1.0")), (("ceiling", "", "50.5"),)),
    ("50 % of the image.",),
)


def test_examples_in_docstrings_run() -> None:
    tried = doctest.testmod(avsl_eval.layout)
    assert tried.attempted > 0
    assert tried.failed == 0


def test_text_by_hand() -> None:
    assert render([TABLE], "text").splitlines() == [
        "cIoU@0.5 in percent, rule lvs v1 (3 clips)",
        "method                  n  value",
        "--------------------------------",
        "a_b & c                 3   34.5",
        "long name of a method  10    1.0",
        "--------------------------------",
        "ceiling                     50.5",
        "50 % of the image.",
    ]


def test_wide_text_is_wrapped_in_its_column() -> None:
    name = "a self-supervised encoder, and all its many settings " * 2
    table = Table(
        "t", ("method", "rule", "%"), (((name.strip(), "r" * 60, "1.5"), ("b", "r", "2.5")),), left=2
    )
    lines = render([table], "text").splitlines()
    assert max(map(len, lines)) == 100
    assert lines[3] == f"a self-supervised encoder, and     {'r' * 60}  1.5"
    assert lines[4:-1] == [
        "all its many settings a self-",
        "supervised encoder, and all its",
        "many settings",
    ]
    assert name.strip() in render([table], "markdown")


def test_columns_that_do_not_fit_follow_below() -> None:
    header = ("method", *(f"rule{k}" for k in range(4)))
    row = ("mine", *(f"{k}5.0 ± 35.4 [ 12.3, 45.6]".rjust(30) for k in range(4)))
    lines = render([Table("t", header, ((row,),), ("A note.",))], "text").splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split() for line in lines if "rule" in line] == [
        ["method", "rule0", "rule1"],
        ["method", "rule2", "rule3"],
    ]
    assert sum(line.startswith("mine") for line in lines) == 2
    assert lines.count("A note.") == 1


def test_long_notes_are_wrapped_in_text() -> None:
    note = "[1] " + "a source and what must be known to read it, " * 5
    lines = render([Table("t", ("a",), ((("x",),),), (note.strip(),))], "text").splitlines()
    assert max(map(len, lines)) <= 100
    assert [line[:4] for line in lines[4:]] == ["[1] ", "    ", "    "]
    assert " ".join(" ".join(lines[4:]).split()) == note.strip()


def test_markdown_by_hand() -> None:
    assert render([TABLE], "markdown").splitlines() == [
        "**cIoU@0.5 in percent, rule lvs v1 (3 clips)**",
        "",
        "| method | n | value |",
        "|:--|--:|--:|",
        "| a\\_b & c | 3 | 34.5 |",
        "| long name of a method | 10 | 1.0 |",
        "|  |  |  |",
        "| ceiling |  | 50.5 |",
        "",
        "50 % of the image.",
    ]


def test_latex_by_hand() -> None:
    lines = render([TABLE], "latex").splitlines()
    assert lines[3] == r"\caption{cIoU@0.5 in percent, rule lvs v1 (3 clips)}"
    assert lines[4] == r"\begin{tabular}{lrr}"
    assert r"a\_b \& c & 3 & 34.5 \\" in lines
    assert [line for line in lines if line.endswith("rule")] == [
        r"\toprule",
        r"\midrule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert lines[-2:] == [r"\par\smallskip {\footnotesize 50 \% of the image.}", r"\end{table}"]


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(1, 3))
def test_any_name_keeps_the_structure(name: str, left: int) -> None:
    table = Table(name, ("a", "b", "c"), (((name, name, "1"),),), (name,), left)
    latex = render([table], "latex")
    assert latex.count("\n") == 12
    # All braces are in pairs and all other special characters are escaped.
    bare = re.sub(r"\\[&%$#_{}]", "", latex)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    body = [line for line in bare.splitlines() if line.endswith(r"\\")]
    assert [line.count("&") for line in body] == [2, 2]
    assert not re.search(r"[#$_^~<>|]", "".join(body))
    row = render([table], "markdown").split("\n")[4]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 4


def test_escapes() -> None:
    assert escape_latex('\\~^<>|"&%$#_{}') == (
        r"\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}\textquotedbl{}"
        r"\&\%\$\#\_\{\}"
    )
    assert escape_markdown("<b>*x*\n`y`") == r"\<b\>\*x\* \`y\`"
    assert escape_latex("3.8 [ 2.5,  5.5]") == "3.8 [2.5, 5.5]"
    assert escape_markdown("R & B &lt;") == r"R & B \&lt;"


def test_unknown_format() -> None:
    with pytest.raises(EvalInputError, match="unknown format 'latx'; did you mean 'latex'"):
        render([TABLE], "latx")
