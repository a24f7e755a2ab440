"""Readers of predictions, one module per format; `avsl_eval.predictions.open_predictions` chooses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avsl_eval.errors import EvalInputError, first_few
from avsl_eval.pictures import SUFFIXES
from avsl_eval.predictions import KNOWN_FORMATS, Predictions

_ZIP, _HDF5, _PARQUET, _NPY = b"PK", b"\x89HDF\r\n\x1a\n", b"PAR1", b"\x93NUMPY"
_PICKLES = {".pkl", ".pickle", ".pt", ".pth"}
_PICKLE_PROTOCOLS = tuple(bytes([0x80, version]) for version in range(2, 6))


def open_mapping(maps: Mapping[str, Any]) -> Predictions:
    """Open a mapping from clip id to heatmap."""
    from avsl_eval.readers.memory import MappingPredictions

    return MappingPredictions(maps)


def open_path(path: Path) -> Predictions:
    """Open a file or folder of predictions.

    Parameters
    ----------
    path
        The file or folder.

    Returns
    -------
    Predictions
        Of the reader that its content asks for.

    Raises
    ------
    EvalInputError
        If it does not exist, cannot be read, or is of no known format.
    """
    try:
        names = sorted(p.name for p in path.iterdir()) if path.is_dir() else None
        exists, is_file, start = path.exists(), path.is_file(), b""
        if is_file:
            with path.open("rb") as file:
                start = file.read(8)
    except OSError as error:
        raise EvalInputError(f"cannot read predictions {path}: {error.strerror}") from error
    if names is not None:
        return _open_folder(path, names)
    if not exists:
        raise EvalInputError(f"there are no predictions {path}; expected {KNOWN_FORMATS}")
    if not is_file:
        raise EvalInputError(f"predictions {path} are neither a file nor a folder; expected {KNOWN_FORMATS}")
    return _open_file(path, start)


def pickle_refused(path: Path) -> EvalInputError:
    """Make the error for a pickle, which is a program: it can do anything to whoever loads it."""
    torch = path.suffix in {".pt", ".pth"}
    load = f"torch.load({path.name!r})" if torch else f"pickle.load(open({path.name!r}, 'rb'))"
    return EvalInputError(
        f"predictions {path} are pickled, which is never loaded, because a pickle can run any program. If "
        "you "
        f"trust it, convert a dict of maps by two lines of Python: maps = {load}; "
        f"np.savez('{path.stem}.npz', clip_id=np.array(list(maps)), heatmap=np.stack(list(maps.values())))"
    )


def _open_file(path: Path, start: bytes) -> Predictions:
    if not start:
        raise EvalInputError(
            f"predictions {path} are empty (0 bytes); was the program that wrote them stopped?"
        )
    if path.suffix in _PICKLES or start[:2] in _PICKLE_PROTOCOLS:
        raise pickle_refused(path)
    if start == _HDF5:
        from avsl_eval.readers.hdf5 import Hdf5Predictions

        return Hdf5Predictions(path)
    if start.startswith(_PARQUET):
        from avsl_eval.readers.arrow import ParquetPredictions

        return ParquetPredictions(path, [path])
    if start.startswith(_NPY):
        raise EvalInputError(
            f"predictions {path} are a single array without clip ids; write both: "
            f"np.savez('{path.stem}.npz', clip_id=np.array(ids), heatmap=maps)"
        )
    if start.startswith(_ZIP):
        from avsl_eval.readers.npz import NpzPredictions

        return NpzPredictions(path)
    raise EvalInputError(
        f"predictions {path} are not a readable .npz: truncated, or of another format; expected "
        f"{KNOWN_FORMATS}"
    )


def _open_folder(path: Path, names: list[str]) -> Predictions:
    of_kind = {
        ".npy": [n for n in names if n.endswith(".npy")],
        "pictures": [n for n in names if n.lower().endswith(SUFFIXES)],
        ".parquet": [n for n in names if n.endswith(".parquet")],
        "a saved dataset": [n for n in names if n == "state.json"],
    }
    kinds = [kind for kind, found in of_kind.items() if found]
    if len(kinds) > 1:
        raise EvalInputError(
            f"predictions folder {path} holds {' and '.join(kinds)}: which of them are the predictions? Move "
            "the "
            "others elsewhere"
        )
    if kinds in ([".npy"], ["pictures"]):
        from avsl_eval.readers.folder import FolderPredictions, PicturePredictions

        reader = FolderPredictions if kinds == [".npy"] else PicturePredictions
        return reader(path, of_kind[kinds[0]])
    if kinds == [".parquet"]:
        from avsl_eval.readers.arrow import ParquetPredictions

        return ParquetPredictions(path, [path / name for name in of_kind[".parquet"]])
    if kinds == ["a saved dataset"]:
        from avsl_eval.readers.arrow import SavedDatasetPredictions

        return SavedDatasetPredictions(path)
    if "dataset_dict.json" in names:
        raise EvalInputError(
            f"predictions {path} are several splits of Hugging Face datasets; name the folder of one split "
            "in it"
        )
    held = f"it holds {first_few(names, 3)}" if names else "it is empty"
    raise EvalInputError(f"predictions folder {path} holds no .npy file ({held}); expected {KNOWN_FORMATS}")
