"""Tables for people: the same cells as plain text, Markdown or LaTeX.

A table is text; what the numbers mean is decided by those who fill it. Names that come from files are escaped
here, once, for each format.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from avsl_eval.errors import unknown_name

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


TEXT_WIDTH = 100
"""Columns of a page of plain text."""
_LEAST_TEXT, _MOST_TEXT = 16, 40
"""Bounds of a column of text that is wrapped."""


@dataclass(frozen=True)
class Table:
    """Hold a table.

    Parameters
    ----------
    caption
        What is shown, the rule and the number of clips included: a table must not lose them on its way.
    header
        Names of the columns; the first column is aligned to the left, all others to the right.
    blocks
        Groups of rows with a line between them; every row has as many cells as the header.
    notes
        Sentences below the table.
    left
        How many of the first columns are text, aligned to the left.
    """

    caption: str
    header: tuple[str, ...]
    blocks: tuple[tuple[tuple[str, ...], ...], ...]
    notes: tuple[str, ...] = ()
    left: int = 1


def render(tables: Sequence[Table], form: str) -> str:
    r"""Write tables below each other.

    Parameters
    ----------
    tables
        The tables.
    form
        One of `FORMATS`.

    Returns
    -------
    str
        Text without a newline at its end.

    Raises
    ------
    EvalInputError
        If there is no such format.

    Examples
    --------
    >>> print(render([Table("t", ("a", "b"), ((("x_y", "1"),),))], "markdown"))
    **t**
    <BLANKLINE>
    | a | b |
    |:--|--:|
    | x\_y | 1 |
    """
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    return "\n\n".join(FORMATS[form](table) for table in tables)


def to_text(table: Table) -> str:
    """Write a table as plain text.

    Parameters
    ----------
    table
        The table.

    Returns
    -------
    str
        Lines without trailing blanks, of at most `TEXT_WIDTH` characters where cells allow it: long text is
        wrapped in its column, and columns that do not fit follow below.
    """
    natural = [max(map(len, column)) for column in _columns(table)]
    widths, parts = _fitted(table, natural)
    lines = [_wrapped(table.caption)]
    for n, part in enumerate(parts):
        ruler = "-" * _total([widths[k] for k in part])
        lines += [""] * (n > 0) + _lines(table, table.header, part, widths)
        for block in table.blocks:
            lines += [ruler, *(text for row in block for text in _lines(table, row, part, widths))]
    return "\n".join([*lines, *map(_wrapped, table.notes)])


def _columns(table: Table) -> list[tuple[str, ...]]:
    return list(zip(table.header, *(row for block in table.blocks for row in block), strict=True))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _fitted(table: Table, natural: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Fit a table into `TEXT_WIDTH`: wrap its widest text, and if that does not do, divide its columns.

    Returns
    -------
    widths : list of int
        Of every column.
    parts : list of list of int
        The columns of each part; all have the columns of text.
    """
    widths, text = list(natural), list(range(table.left))
    if text and _total(widths) > TEXT_WIDTH:
        widest = max(text, key=lambda k: natural[k])
        words = [len(word) for cell in _columns(table)[widest] for word in cell.split()]
        narrow = max(TEXT_WIDTH - _total(widths) + natural[widest], *words, _LEAST_TEXT)
        widths[widest] = min(natural[widest], narrow, _MOST_TEXT)
        if _total(widths) > TEXT_WIDTH:
            widths[widest] = min(natural[widest], _MOST_TEXT)
    parts = [text]
    for k in range(table.left, len(widths)):
        if len(parts[-1]) > len(text) and _total([widths[c] for c in [*parts[-1], k]]) > TEXT_WIDTH:
            parts.append(text)
        parts[-1] = [*parts[-1], k]
    return widths, parts


def _lines(table: Table, row: Sequence[str], part: Sequence[int], widths: Sequence[int]) -> list[str]:
    """Write a row: one line, or more where a cell is wrapped."""
    cells = {k: [row[k]] if len(row[k]) <= widths[k] else textwrap.wrap(row[k], widths[k]) for k in part}
    lines = []
    for n in range(max(map(len, cells.values()))):
        texts = [(k, cell[n] if n < len(cell) else "") for k, cell in cells.items()]
        aligned = [t.ljust(widths[k]) if k < table.left else t.rjust(widths[k]) for k, t in texts]
        lines.append("  ".join(aligned).rstrip())
    return lines


def _wrapped(note: str) -> str:
    return textwrap.fill(note, TEXT_WIDTH, subsequent_indent="    ", break_long_words=False)


def to_markdown(table: Table) -> str:
    """Write a table as GitHub's Markdown.

    Parameters
    ----------
    table
        The table.

    Returns
    -------
    str
        Caption, table and notes. Markdown knows no line between rows: a row of empty cells stands for it.
    """

    def line(row: Sequence[str]) -> str:
        return f"| {' | '.join(map(escape_markdown, row))} |"

    alignment = [":--" if k < table.left else "--:" for k in range(len(table.header))]
    lines = [
        f"**{escape_markdown(table.caption)}**",
        "",
        line(table.header),
        f"|{'|'.join(alignment)}|",
    ]
    for k, block in enumerate(block for block in table.blocks if block):
        if k:
            lines.append("|" + "  |" * len(table.header))
        lines += map(line, block)
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines)


def to_latex(table: Table) -> str:
    r"""Write a table as LaTeX.

    Parameters
    ----------
    table
        The table.

    Returns
    -------
    str
        A ``table`` environment; the document needs ``\usepackage{booktabs}``.
    """

    def line(row: Sequence[str]) -> str:
        return " & ".join(map(escape_latex, row)) + r" \\"

    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        line(table.header),
    ]
    for block in table.blocks:
        lines += [r"\midrule", *map(line, block)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip {{\footnotesize {escape_latex(note)}}}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"])


def escape_markdown(text: str) -> str:
    r"""Escape what Markdown would read as markup.

    Parameters
    ----------
    text
        Any text; line breaks become blanks.

    Returns
    -------
    str
        Markdown that shows the text.

    Examples
    --------
    >>> escape_markdown("a|b")
    'a\\|b'
    """
    return re.sub(r"([\\|<>*_`]|&(?=[#\w]))", r"\\\1", _one_line(text))


def escape_latex(text: str) -> str:
    r"""Escape what LaTeX would read as a command.

    Parameters
    ----------
    text
        Any text; line breaks become blanks.

    Returns
    -------
    str
        LaTeX that prints the text.

    Examples
    --------
    >>> escape_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    """Drop line breaks, and the blanks that align numbers in plain text."""
    return " ".join(text.split()).replace("[ ", "[")


FORMATS: MappingProxyType[str, Callable[[Table], str]] = MappingProxyType(
    {"text": to_text, "markdown": to_markdown, "latex": to_latex}
)
"""Names of the formats and what writes them."""
