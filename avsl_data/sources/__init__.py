"""The sources: published, rendered or a user's own, one module each.

Adding one: write a module with the names of `avsl_data.sources.source.Source`, add it to `SOURCES`; the
conformance test in tests/data sweeps the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from avsl_data.errors import DataInputError, unknown_name
from avsl_data.sources import demo, folder, vggsound, vggss
from avsl_data.sources.source import Inputs, Source

SOURCES: Final[Mapping[str, Source]] = {module.NAME: module for module in (demo, folder, vggsound, vggss)}

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
