"""The sources: published, rendered or a user's own, one module each or one per family.

Adding one: write a module with the names of `avsl_data.sources.source.Source`, add it to `SOURCES`; the
conformance test in tests/data sweeps the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from avsl_data.errors import DataInputError, unknown_name
from avsl_data.sources import demo, flickr_soundnet, folder, vggsound, vggss
from avsl_data.sources.extended import EXTENDED_SETS
from avsl_data.sources.picture_sets import PICTURE_SETS
from avsl_data.sources.source import Inputs, Source

MODULES: Final[tuple[Source, ...]] = (demo, flickr_soundnet, folder, vggsound, vggss)

SOURCES: Final[Mapping[str, Source]] = {
    source.NAME: source for source in (*MODULES, *EXTENDED_SETS, *PICTURE_SETS)
}

_FLAGS: Final = {"list_name": "--list"}


def source_named(name: str, inputs: Inputs) -> Source:
    """Look up a source and check that it uses every input that was given.

    Parameters
    ----------
    name
        Name of the source.
    inputs
        What was given on the command line.

    Returns
    -------
    Source
        The source's module.

    Raises
    ------
    DataInputError
        If there is no such source, or an input means nothing to it.

    Examples
    --------
    >>> source_named("vggss", Inputs()).NAME
    'vggss'
    """
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    source = SOURCES[name]
    unused = sorted(inputs.given() - source.INPUTS)
    if unused:
        flags = ", ".join(_FLAGS.get(item, f"--{item}") for item in unused)
        takes = ", ".join(_FLAGS.get(item, f"--{item}") for item in sorted(source.INPUTS))
        raise DataInputError(f"the source '{name}' does not use {flags}: it takes {takes}")
    return source
