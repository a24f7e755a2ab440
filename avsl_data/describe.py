"""Data cards: what a source is, as its module says it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from avsl_data.files import sha256_of
from avsl_data.remotes import Remote, place_of
from avsl_data.sources.source import Source

SCHEMA: Final = "avsl-data-card/1"
SECTIONS: Final = ("Size", "How made", "Known faults", "Not automatic")


def card_of(source: Source, mirror: Path | None = None) -> dict[str, Any]:
    """Build the data card of a source.

    Parameters
    ----------
    source
        The source.
    mirror
        Folder of copies of published files; None looks into the cache.

    Returns
    -------
    dict
        JSON of schema ``avsl-data-card/1``. The ``copy`` of a remote is ``verified``, ``damaged`` (another
        checksum) or ``absent``.
    """
    text = inspect.cleandoc(source.__doc__ or "")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    sections = {name: _section(paragraphs, name) for name in SECTIONS}
    return {
        "schema": SCHEMA,
        "name": source.NAME,
        "summary": paragraphs[0].rstrip("."),
        **{name.lower().replace(" ", "_"): body for name, body in sections.items() if body},
        "truth": source.TRUTH,
        "licence": source.LICENSE,
        "citation": source.BIBTEX,
        "inputs": sorted(source.INPUTS),
        "remotes": [
            {
                "name": name,
                "url": remote.url,
                "sha256": remote.sha256,
                "licence": remote.licence,
                "copy": _state(remote, mirror),
            }
            for name, remote in source.REMOTES.items()
        ],
    }


def _section(paragraphs: list[str], name: str) -> str:
    mark = f"**{name}.** "
    return next((part.removeprefix(mark) for part in paragraphs if part.startswith(mark)), "")


def _state(remote: Remote, mirror: Path | None) -> str:
    path = place_of(remote, mirror)
    if not path.is_file():
        return "absent"
    return "verified" if sha256_of(path) == remote.sha256 else "damaged"


def card_text(card: dict[str, Any], width: int = 100) -> str:
    """Return a data card as text.

    Parameters
    ----------
    card
        From `card_of`.
    width
        Characters of a line.

    Returns
    -------
    str
        Lines with a final newline.
    """
    import textwrap

    lines = [f"{card['name']}: {card['summary']}", ""]
    for name in (*SECTIONS, "Licence"):
        if body := card.get(name.lower().replace(" ", "_")):
            lines += textwrap.wrap(f"{name}: {body}", width, subsequent_indent="  ")
    lines.append(f"Truth: {card['truth']} of the boxes")
    flags = ["--list" if name == "list_name" else f"--{name}" for name in card["inputs"]]
    lines.append(f"Options: {', '.join(flags)}")
    if card["remotes"]:
        lines += ["", "Published files (sha256, copy here, name, address):"]
        lines += [f"  {r['sha256']}  {r['copy']:8}  {r['name']}  {r['url']}" for r in card["remotes"]]
    if card["citation"]:
        lines += ["", "Cite:", card["citation"].rstrip()]
    return "\n".join(lines) + "\n"
