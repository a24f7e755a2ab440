"""Packages that only some formats need: imported when a file of that format is read."""

from __future__ import annotations

import importlib
from typing import Any

from avsl_eval.errors import EvalInputError


def need(module: str, extra: str, what: str) -> Any:
    """Import a module that an extra of this package installs.

    Parameters
    ----------
    module
        For example ``"h5py"``.
    extra
        Name of the extra, for example ``"hdf5"``.
    what
        What cannot be read without it, for the message.

    Returns
    -------
    module
        The module.

    Raises
    ------
    EvalInputError
        If it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EvalInputError(
            f"{what} needs {module.partition('.')[0]}, which is not installed ({error}): "
            f"pip install 'avsl-toolkit[{extra}]'"
        ) from error
