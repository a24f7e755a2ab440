"""VGGSound: about 200,000 ten-second clips of YouTube videos whose sound is visible.

**Size.** 199,176 clips of 309 classes in the publisher's table; other projects train on lists of 10,000,
144,000 and about 70,000 of them (heard classes only). `LISTS` names each list by the project that ships it.
The whole table, ``vggsound.csv``, has no address with a fixed checksum and copies of it differ: it is given
as a file (``--table``), which adds labels and the official split to a list or stands for all clips.

**How made.** Classes were chosen that can be seen and heard; clips were found by search, then filtered by
image and sound classifiers. There are no boxes, except VGG-SS's for the test split.

**Known faults.** Lists that were copied from project to project hold test clips: of the 5,158 VGG-SS clips,
3,709 are in ``vggsound_144k@ezvsl`` and 3,715 in ``vggsound_144k@fnac`` (238 and 229 in their 10k lists).
``vggsound_144k@htf`` holds none of them but 7,310 other test clips of VGGSound. ``@ssltie`` is clean but
for two shared videos, ``vggsound_10k@acl`` entirely. The split stage removes what leaks and says how much.
``vggsound_heard@ezvsl`` lacks the nine of its 110 classes whose name has a comma.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from avsl_data.errors import DataInputError, unknown_name
from avsl_data.remotes import Remote, fetch
from avsl_data.sources.projects import ACL, EZVSL, FNAC, HTF, SSLTIE, VGGSOUND
from avsl_data.sources.source import CatalogClip, ClipBoxes, Inputs
from avsl_data.sources.vggss import youtube_clips

NAME: Final = "vggsound"

BIBTEX: Final = """\
@inproceedings{chen2020vggsound,
  title     = {VGGSound: A Large-Scale Audio-Visual Dataset},
  author    = {Chen, Honglie and Xie, Weidi and Vedaldi, Andrea and Zisserman, Andrew},
  booktitle = {ICASSP},
  year      = {2020}
}
"""

LICENSE: Final = "Table: CC BY 4.0. Lists: as each project says. The videos belong to their uploaders."

LISTS: Final[Mapping[str, Remote]] = {
    "vggsound_10k@acl": Remote(
        f"{ACL}/vggss_10k.csv",
        "35929877aa9bb38f910468ceef34ab1dc815b328c26fc4108aa9d7ab80242d9e",
        "none stated",
    ),
    "vggsound_10k@ezvsl": Remote(
        f"{EZVSL}/vggss_10k.txt",
        "9a19023b17aedc79001bbcb69ccd5c96f6af2f7b8ef1b12fa92a76050a0ae43e",
        "Apache-2.0",
    ),
    "vggsound_10k@fnac": Remote(
        f"{FNAC}/vggss_10k.txt",
        "0f45948f847134eda966d039d212eb50bd13cf316dcd93726c8b594bc2e8235a",
        "none stated",
    ),
    "vggsound_10k@htf": Remote(
        f"{HTF}/vgg_train_10k.txt",
        "2dc8c031db640f280c75ce54c2fd6da3e910415a6dedd5034e5868fa71707f0e",
        "MIT",
    ),
    "vggsound_10k@ssltie": Remote(
        f"{SSLTIE}/train_vggss_train_10k.txt",
        "47b12e74a448b10f1d51fa7b4908b93c45f3be18099033e8e3ef735fa8caedb6",
        "MIT",
    ),
    "vggsound_144k@ezvsl": Remote(
        f"{EZVSL}/vggss_144k.txt",
        "a9a02f704e8bb2d746c43860e5830e7589e9311de5bd067459484ec5bb4bd529",
        "Apache-2.0",
    ),
    "vggsound_144k@fnac": Remote(
        f"{FNAC}/vggss_144k.txt",
        "2a5721946e1c1ec0497ae0b347576226105650e7f6ee3075fce64e292953c8fc",
        "none stated",
    ),
    "vggsound_144k@htf": Remote(
        f"{HTF}/vgg_train_144k.txt",
        "f1ec874c7913c1a775d68044163bde7eb4e77bf24e62022b9fef9ffdc7f3a456",
        "MIT",
    ),
    "vggsound_144k@ssltie": Remote(
        f"{SSLTIE}/train_vggss_train_144k.txt",
        "703eca24ff71c1fcfbdcde06d49a246151838f4a03620104fa8dd3b00e977e46",
        "MIT",
    ),
    "vggsound_heard@acl": Remote(
        f"{ACL}/vggss_heard.csv",
        "66c34ff14e5d8d9e87da9abac87d7359da4afe5ce02e44ff38dfbe18ba6d0a22",
        "none stated",
    ),
    "vggsound_heard@ezvsl": Remote(
        f"{EZVSL}/vggss_heard.txt",
        "db900e2df283236b3e5485ae95a4a09f0904f8da184fc7da6f1ab1d24f6c5aa2",
        "Apache-2.0",
    ),
    "vggsound_heard@ssltie": Remote(
        f"{SSLTIE}/openset/openset_train_110_70k.txt",
        "39304950ce89bf0b58b900fda463e06122a9db3422d8d10f1196d78dd72d1894",
        "MIT",
    ),
}
"""Published training lists as ``<set>_<size>@<project>``."""

REMOTES: Final[Mapping[str, Remote]] = {
    **LISTS,
    "test.csv": Remote(
        f"{VGGSOUND}/test.csv",
        "0b2215dc3786fbb223aa06a2162491099d89cf080ac31b16bb3a72368fbaa24d",
        "CC BY 4.0",
    ),
    "stat.csv": Remote(
        f"{VGGSOUND}/stat.csv",
        "981445307f3b9ebc2b0e65641daaac1359496b7a8f17208348e7fc8e2696b6d5",
        "CC BY 4.0",
    ),
}

INPUTS: Final = frozenset({"mirror", "list_name", "table"})
TRUTH: Final = "union"

DEFAULT_LIST: Final = "vggsound_144k@ssltie"


def catalog(inputs: Inputs) -> Sequence[CatalogClip]:
    """List the clips of one published list, or of the user's table, in its order.

    Parameters
    ----------
    inputs
        Uses ``list_name`` (`DEFAULT_LIST` if there is no table either), ``table`` and ``mirror``.

    Returns
    -------
    ClipTable
        The official split is the table's, else ``test`` for clips of VGGSound's published test table and
        ``train`` for the others. The label is the list's, else the table's, else the test table's, else
        empty. A table without a list gives all of its clips.

    Raises
    ------
    DataInputError
        If the list has no such name or cannot be had, or the table is malformed.
    """
    import pyarrow.compute as pc

    from avsl_data.id_lists import read_list, read_vggsound_table

    name = inputs.list_name or DEFAULT_LIST
    if name not in LISTS:
        raise unknown_name("list", name, LISTS)
    table = None if inputs.table is None else read_vggsound_table(inputs.table)
    if table is not None and inputs.list_name is None:
        return youtube_clips(table["clip_id"], table["label"], table["split"])
    listed = read_list(fetch(LISTS[name], inputs.mirror))
    test = read_list(fetch(REMOTES["test.csv"], inputs.mirror))
    in_test = pc.index_in(listed.ids, test.ids)
    labels = pc.if_else(pc.equal(listed.labels, ""), test.labels.take(in_test), listed.labels)
    splits = pc.if_else(pc.is_valid(in_test), "test", "train")
    if table is not None:
        places = pc.index_in(listed.ids, table["clip_id"])
        own = table.combine_chunks().take(places)
        labels = pc.if_else(pc.equal(listed.labels, ""), pc.coalesce(own["label"], labels), listed.labels)
        splits = pc.coalesce(own["split"], splits)
    return youtube_clips(listed.ids, pc.fill_null(labels, ""), splits)


def classes(mirror: Path | None = None) -> dict[str, int]:
    """Return the 309 classes and the publisher's number of clips of each.

    Parameters
    ----------
    mirror
        As in `Inputs`.

    Returns
    -------
    dict of str to int
        From ``stat.csv``; the counts sum to 199,176.
    """
    path = fetch(REMOTES["stat.csv"], mirror)
    with path.open(newline="", encoding="utf-8") as file:
        return {row[0]: int(row[1]) for row in csv.reader(file) if row}


def boxes(inputs: Inputs) -> list[ClipBoxes]:
    """Refuse: VGGSound has no boxes.

    Parameters
    ----------
    inputs
        Not used.

    Returns
    -------
    list of ClipBoxes
        Never.

    Raises
    ------
    DataInputError
        Always; the message names the source that has boxes.
    """
    del inputs
    raise DataInputError("the source 'vggsound' has no boxes: annotated clips come from the source 'vggss'")
