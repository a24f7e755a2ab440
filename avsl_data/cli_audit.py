"""Commands that tell: audit, describe."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from avsl_data.cli import Commands, Parser, add_command, say
from avsl_data.errors import DataInputError

if TYPE_CHECKING:
    from avsl_data.audit import Leak, ListFacts
    from avsl_data.published_lists import NamedClips

EXIT_LEAK: Final = 1
BEGIN: Final = "<!-- begin: avsl-data audit --published --markdown -->\n"
END: Final = "<!-- end -->\n"


def add_commands(commands: Commands[Parser]) -> None:
    """Add this group's commands."""
    _add_audit(commands)
    _add_describe(commands)


def _add_audit(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "audit",
        "Say what training lists share with test sets, what they lack and what is broken in them. "
        "Exit code 1 with --fail-on-leak if a clip of a list is of a test video.",
        "mine.txt vggsound_144k@ezvsl --test vggss --test vggsound-test --ids leaks.txt",
    )
    command.add_argument(
        "lists",
        nargs="*",
        metavar="LIST",
        help="a file (ids, vggsound.csv, vggss.json, a catalog) or the name of a published list",
    )
    command.add_argument(
        "--test",
        action="append",
        default=[],
        metavar="SET",
        help="a test set, by name or as a file; repeated (default vggss and vggsound-test, or flickr's)",
    )
    command.add_argument("--published", action="store_true", help="audit every published list instead")
    command.add_argument(
        "--mirror", type=Path, metavar="DIR", help="take https://HOST/PATH from DIR/HOST/PATH"
    )
    command.add_argument(
        "--table", type=Path, metavar="FILE", help="vggsound.csv: classes, and which clips exist"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as Markdown")
    command.add_argument("--out", type=Path, metavar="FILE", help="write the tables there, not to stdout")
    command.add_argument(
        "--update", type=Path, metavar="FILE", help="write the published tables between FILE's marks"
    )
    command.add_argument("--ids", type=Path, metavar="FILE", help="write the ids of clips of test videos")
    command.add_argument("--fail-on-leak", action="store_true", help="end with exit code 1 if a list leaks")
    command.set_defaults(run=_audit)


def _audit(arguments: argparse.Namespace) -> None:
    from avsl_data import audit
    from avsl_data.files import write_text
    from avsl_data.id_lists import read_vggsound_table
    from avsl_data.published_audit import published_json, published_markdown
    from avsl_data.published_lists import ALIASES, LISTS, known_labels, load

    if arguments.published or arguments.update:
        if arguments.lists or arguments.test or arguments.ids or arguments.fail_on_leak:
            raise DataInputError("--published audits every published list: leave LIST, --test and --ids out")
        if arguments.update:
            _update(arguments.update, published_markdown(arguments.mirror))
        elif arguments.json:
            _show(arguments, json.dumps(published_json(arguments.mirror), indent=1) + "\n")
        else:
            _show(arguments, published_markdown(arguments.mirror))
        return
    if not arguments.lists:
        raise DataInputError("name a list to audit, a file or a published list, or give --published")
    lists = [load(name, arguments.mirror, strict=False) for name in arguments.lists]
    names = arguments.test or _default_tests(lists)
    tests = [load(name, arguments.mirror) for name in names]
    known = None if arguments.table is None else read_vggsound_table(arguments.table)
    labels = None
    if any(name in ALIASES or name in LISTS for name in names if not name.startswith("flickr")):
        labels = known_labels(arguments.mirror, arguments.table)
    elif known is not None:
        labels = known.select(["clip_id", "label"])
    facts = [audit.facts_of(clips, None if known is None else known["clip_id"]) for clips in lists]
    leaks = [audit.find_leaks(clips, test, labels) for clips in lists for test in tests]
    _show(arguments, _text(arguments, lists, facts, leaks))
    if arguments.ids:
        ids = sorted({clip_id for leak in leaks for clip_id in leak.ids.to_pylist()})
        write_text(arguments.ids, "".join(f"{clip_id}\n" for clip_id in ids))
    if arguments.fail_on_leak and any(leak.clips_of_test_videos for leak in leaks):
        raise SystemExit(EXIT_LEAK)


def _default_tests(lists: list[NamedClips]) -> tuple[str, ...]:
    from avsl_data.ids import is_number

    first = next((clips.table["clip_id"][0].as_py() for clips in lists if clips.table.num_rows), "")
    return ("flickr", "flickr-pool@slavc") if is_number(first) else ("vggss", "vggsound-test")


def _text(
    arguments: argparse.Namespace, lists: list[NamedClips], facts: list[ListFacts], leaks: list[Leak]
) -> str:
    from avsl_data import audit

    if arguments.json:
        faults = [
            {"list": clips.name, "line": fault.line, "text": fault.text, "why": fault.why}
            for clips in lists
            for fault in clips.faults
        ]
        content = {
            "schema": audit.SCHEMA,
            "lists": [vars(item) for item in facts],
            "rows": [leak.as_json() for leak in leaks],
            "faults": faults,
        }
        return json.dumps(content, indent=1) + "\n"
    table = audit.markdown if arguments.markdown else audit.plain
    text = table(audit.FACT_HEADER, audit.fact_rows(facts)) + "\n"
    text += table(audit.HEADER, audit.table_rows(facts, leaks))
    for leak in leaks:
        if 0 < len(leak.uncovered) <= SHOWN_CLASSES:
            text += f"\n{leak.list_name} has no clip of {len(leak.uncovered)} classes of {leak.test}: "
            text += "; ".join(leak.uncovered) + "\n"
    for clips in lists:
        for fault in clips.faults[:SHOWN_FAULTS]:
            text += f"\n{clips.name}, line {fault.line}: {fault.why}"
        if (more := len(clips.faults) - SHOWN_FAULTS) > 0:
            text += f"\n{clips.name}: {more} more malformed lines"
        text += "\n" if clips.faults else ""
    return text


SHOWN_FAULTS: Final = 5
SHOWN_CLASSES: Final = 20


def _show(arguments: argparse.Namespace, text: str) -> None:
    from avsl_data.files import write_text

    if arguments.out:
        write_text(arguments.out, text)
    else:
        say(text.rstrip("\n"))


def _update(path: Path, text: str) -> None:
    """Replace what stands between a file's marks."""
    from avsl_data.files import write_text

    if not path.is_file():
        raise DataInputError(f"--update {path} does not exist")
    content = path.read_text(encoding="utf-8")
    head, begin, rest = content.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataInputError(f"{path} has no marks {BEGIN.strip()} and {END.strip()}")
    write_text(path, head + BEGIN + text + END + tail)


def _add_describe(commands: Commands[Parser]) -> None:
    command = add_command(
        commands,
        "describe",
        "Print what a source is: size, how made, faults, licence, citation, published files.",
        "flickr_soundnet --mirror lists",
    )
    command.add_argument("source", nargs="?", metavar="SOURCE", help="the source; leave out to list all")
    command.add_argument(
        "--mirror", type=Path, metavar="DIR", help="look for copies of published files there"
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_describe)


def _describe(arguments: argparse.Namespace) -> None:
    from avsl_data.describe import card_of, card_text
    from avsl_data.sources import SOURCES, source_named
    from avsl_data.sources.source import Inputs

    if arguments.source is None:
        cards = [card_of(source, arguments.mirror) for _, source in sorted(SOURCES.items())]
        if arguments.json:
            say(json.dumps(cards, indent=1))
            return
        width = max(len(card["name"]) for card in cards)
        for card in cards:
            say(f"{card['name']:{width}}  {card['summary']}")
        return
    card = card_of(source_named(arguments.source, Inputs()), arguments.mirror)
    say(json.dumps(card, indent=1) if arguments.json else card_text(card).rstrip("\n"))
