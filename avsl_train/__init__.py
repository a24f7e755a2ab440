"""avsl_train: training of audio-visual source localization, and trained models in use.

::

    import avsl_train

    model = avsl_train.load_model("runs/mine/seed0/checkpoint.pt")  # or a folder, or owner/name of the hub
    heatmap = model.localize(frame, waveform, sample_rate=44100)  # [H, W] of the frame

Both names are imported when they are used, because torch takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsl_train.load import load_model
    from avsl_train.model import Model

__all__ = ["Model", "load_model"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "load_model":
        from avsl_train.load import load_model

        return load_model
    if name == "Model":
        from avsl_train.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
