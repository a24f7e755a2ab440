"""A trained model as a folder for the Hugging Face hub: weights, configuration, card; written, read, pushed.

========================  ===================================================================================
file                      content
========================  ===================================================================================
``model.safetensors``     the weights that localize; neither optimiser nor pseudo-labels
``config.json``           schema ``avsl-model/1``: method, the facts that rebuild the network, what its maps
                          hold, SHA-256 of the weights and of the configuration itself
``README.md``             the model card
========================  ===================================================================================

The folder is read by `avsl_train.load_model` and gives the maps of the checkpoint, bit by bit. A file that
was changed afterwards is refused, because it would be another model under the same name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from avsl_train.checkpoint import file_digest
from avsl_train.errors import TrainInputError
from avsl_train.model import Model
from avsl_train.stored import StoredModel

SCHEMA: Final = "avsl-model/1"
WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
CARD: Final = "README.md"
FILES: Final = (WEIGHTS, CONFIG, CARD)


def write_folder(model: StoredModel, use: Model, card: str, out: Path) -> None:
    """Write a model's folder; it appears whole or not at all.

    Parameters
    ----------
    model
        Weights and facts.
    use
        The same model, loaded.
    card
        Text of ``README.md``.
    out
        The folder; one that this function wrote before is replaced.

    Raises
    ------
    TrainInputError
        ``out`` holds something else.
    """
    from safetensors.torch import save_file

    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in model.weights.items()}
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        record = _record(model, use, file_digest(temporary / WEIGHTS))
        (temporary / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_out(out: Path) -> None:
    """Raise TrainInputError if a folder cannot be replaced by a model's."""
    if not out.exists():
        return
    if not out.is_dir():
        raise TrainInputError(f"{out} is a file: --out names a folder")
    held = sorted(path.name for path in out.iterdir())
    if held and (CONFIG not in held or not set(held) <= set(FILES)):
        strange = next((name for name in held if name not in FILES), held[0])
        raise TrainInputError(
            f"{out} holds {strange}, which no model's folder has: choose another --out, or empty it yourself"
        )


def read_folder(folder: Path) -> StoredModel:
    """Read a folder that `write_folder` wrote.

    Raises
    ------
    TrainInputError
        A file is missing, damaged or was changed.
    """
    record = _read_record(folder / CONFIG)
    path = folder / WEIGHTS
    if not path.is_file():
        raise TrainInputError(f"{folder} lacks {WEIGHTS}: download it again, or export the checkpoint again")
    found = file_digest(path)
    if found != record["weights_sha256"]:
        raise TrainInputError(
            f"{path} is not the file that {CONFIG} names (SHA-256 {found[:12]} instead of "
            f"{record['weights_sha256'][:12]}): it is cut short or was changed; export or download it again"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise TrainInputError(f"{path} cannot be read: {error}") from error
    return StoredModel(record["method"], weights, record["facts"], record["checkpoint_sha256"])


def download(repository: str) -> Path:
    """Return the local copy of a model of the hub, ``owner/name`` or ``owner/name@revision``.

    Raises
    ------
    TrainInputError
        There is no such repository or revision, or the hub cannot be reached and has no copy here.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    try:
        return Path(
            huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=list(FILES))
        )
    except HFValidationError as error:
        raise TrainInputError(
            f"{repository} is neither a file, a folder nor a hub's name: {error}"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        answered = isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError)
        why, mend = (
            ("the hub gives no such model", "check the name; private models need `hf auth login`")
            if answered
            else ("the hub cannot be reached", "download the folder where it can be, and give its path")
        )
        raise TrainInputError(f"no file or folder {repository} here, and {why} ({reason}): {mend}") from error


def require_token(repository: str) -> None:
    """Raise TrainInputError unless somebody is logged in to the hub."""
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise TrainInputError(
            f"pushing to {repository} needs a token with write access: run `hf auth login` or set $HF_TOKEN"
        )


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a model's folder; the repository is made if absent.

    Parameters
    ----------
    folder
        Written by `write_folder`.
    repository
        ``owner/name``.
    public
        Whether a repository that is made can be seen by everybody.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    TrainInputError
        The folder is none of a model, the name is none, nobody is logged in, or the hub refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    record = _read_record(folder / CONFIG)
    require_token(repository)
    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, repo_type="model", private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            repo_type="model",
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message=f"avsl-train export: {record['method']}, weights {record['weights_sha256'][:12]}",
        )
    except HFValidationError as error:
        raise TrainInputError(f"--push {repository} is no name of a repository: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TrainInputError(
            f"the hub did not take {folder} ({reason}); the folder is written, so push again by `avsl-train "
            f"export --checkpoint {folder} --out {folder} --push {repository}`"
        ) from error
    return str(done.commit_url)


def _record(model: StoredModel, use: Model, weights_sha256: str) -> dict[str, Any]:
    record = {
        "schema": SCHEMA,
        "library_name": "avsl-toolkit",
        "version": version("avsl-toolkit"),
        "method": model.method,
        "facts": model.facts,
        **use.values.record,
        "sample_rate": use.sample_rate,
        "window_s": use.window_s,
        "checkpoint_sha256": model.sha256,
        "weights_sha256": weights_sha256,
    }
    return {**record, "config_sha256": _digest(record)}


def _read_record(path: Path) -> dict[str, Any]:
    """Read ``config.json`` and check that it is what was written."""
    folder = path.parent
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrainInputError(
            f"{folder} is no exported model, it has no {CONFIG}: make one with `avsl-train export`, or name "
            "the checkpoint in it"
        ) from error
    except (OSError, ValueError) as error:
        raise TrainInputError(
            f"{path} cannot be read as JSON ({error}): export or download it again"
        ) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        schema = record.get("schema") if isinstance(record, dict) else None
        raise TrainInputError(
            f"{path} has schema {schema!r}, this program reads {SCHEMA!r}: it is another library's model, or "
            "another version wrote it"
        )
    kept = {key: value for key, value in record.items() if key != "config_sha256"}
    if record.get("config_sha256") != _digest(kept):
        raise TrainInputError(
            f"{path} was changed after it was written: export or download it again, because weights and "
            "configuration belong together"
        )
    return kept


def _digest(record: dict[str, Any]) -> str:
    """Return the SHA-256 of a record as sorted JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
