"""Uploading a finished dataset folder to the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path

from avsl_data.errors import DataInputError, StopEverythingError
from avsl_data.hub import MARKER


def require_token(repository: str) -> None:
    """Check that somebody is logged in to the hub.

    Parameters
    ----------
    repository
        Where to push, for the message.

    Raises
    ------
    DataInputError
        If there is no token.
    """
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise DataInputError(
            f"pushing to {repository} needs a token with write access: run `hf auth login` or set $HF_TOKEN"
        )


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a folder as a dataset repository; made if absent.

    Parameters
    ----------
    folder
        Written by `avsl_data.hub.write_folder`.
    repository
        ``USER/NAME``.
    public
        Whether a repository that is made can be seen by everybody.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    DataInputError
        If the folder is no finished one, the name is none, or nobody is logged in.
    StopEverythingError
        If the hub refuses or cannot be reached; the same call continues later.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not (folder / MARKER).is_file():
        raise DataInputError(f"{folder} is no finished dataset folder ({MARKER} is absent)")
    require_token(repository)
    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"avsl-data hub: {_summary(folder)}",
            delete_patterns=["data/*", "*.csv", "*.json"],
        )
    except HFValidationError as error:
        raise DataInputError(f"--push {repository} is no name of a repository: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StopEverythingError(f"the hub did not take {folder}: {reason}") from error
    return str(done.commit_url)


def _summary(folder: Path) -> str:
    about = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    kind = "metadata" if about["metadata_only"] else "frames and sounds"
    return f"{kind} of {len(about['shards'])} shards"
