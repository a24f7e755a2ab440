"""Exponential moving average of a model's weights: momentum encoders and mean teachers.

`update_average` makes one step between two modules, for a method whose average is a model of its own that
predicts while the online one trains (a teacher, SLAVC's momentum encoders). `EMA` keeps an average beside a
model and lends it to the model for as long as it is scored.

The caller chooses when a step is made. SLAVC makes it inside its forward pass, *before* the momentum features
are computed [code]; a mean teacher makes it after the optimiser's step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_average(average: nn.Module, online: nn.Module, decay: float, buffers: bool = True) -> None:
    """Make one step in place: parameters become decay * average + (1 - decay) * online, buffers are copied.

    Buffers are BatchNorm's running statistics, averages already; copied, the teacher has its own weights and
    the student's statistics [ours]. SLAVC steps the parameters alone and lets its momentum encoders, which
    stay in training mode, gather statistics of their own [code]: ``buffers=False``.

    Parameters
    ----------
    average, online
        Modules of the same structure.
    decay
        In [0, 1]; 1 keeps the average's parameters.
    buffers
        Whether the buffers that the modules save are copied.

    Raises
    ------
    ValueError
        The decay is outside [0, 1], or the modules differ in structure.

    Examples
    --------
    >>> average, online = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> _ = nn.init.constant_(average.weight, 1.0), nn.init.constant_(online.weight, 3.0)
    >>> update_average(average, online, 0.75)
    >>> average.weight.item()
    1.5
    """
    _match({**_parameters(average), **_buffers(average)}, {**_parameters(online), **_buffers(online)})
    _step(_parameters(average), _parameters(online), decay)
    if buffers:
        _copy(_buffers(average), _buffers(online))


class EMA:
    """The exponential moving average of a model's parameters, with its latest buffers.

    It starts as a copy of the model. After k steps a parameter is
    decay^k * p_0 + (1 - decay) * sum over i = 1..k of decay^(k-i) * p_i.

    Parameters
    ----------
    model
        What is averaged.
    decay
        In [0, 1]; .999 in SLAVC [code].

    Raises
    ------
    ValueError
        The decay is outside [0, 1].

    Notes
    -----
    `torch.optim.swa_utils.AveragedModel` copies the model at the first step instead of averaging, and swaps
    nothing in.

    Examples
    --------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 1.0)
    >>> ema = EMA(model, decay=0.5)
    >>> _ = nn.init.constant_(model.weight, 3.0)  # the optimiser's step
    >>> ema.update(model)
    >>> with ema.applied_to(model):
    ...     model.weight.item()
    2.0
    >>> model.weight.item()
    3.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        _check(decay)
        self.decay = decay
        self.parameters = {name: value.detach().clone() for name, value in _parameters(model).items()}
        self.buffers = {name: value.detach().clone() for name, value in _buffers(model).items()}
        self._lent = False

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Make one step towards a model, in place.

        Raises
        ------
        RuntimeError
            The model runs with the average at this moment.
        ValueError
            The model is not of the structure that the average began with.
        """
        if self._lent:
            raise RuntimeError("EMA.update inside EMA.applied_to would average the average with itself")
        _match(self.state_dict(), {**_parameters(model), **_buffers(model)})
        _step(self.parameters, _parameters(model), self.decay)
        _copy(self.buffers, _buffers(model))

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Lend the average to a model inside a ``with`` block; its own weights and buffers return after it.

        They return unchanged however the block ends. What the block does to weights or buffers is lost.

        Raises
        ------
        ValueError
            The model is not of the structure that the average began with.
        """
        live = {**_parameters(model), **_buffers(model)}
        average = self.state_dict()
        _match(live, average)
        own = {name: value.detach().clone() for name, value in live.items()}
        before, self._lent = self._lent, True
        try:
            _copy(live, average)
            yield
        finally:
            _copy(live, own)
            self._lent = before

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average as a state_dict that the model can load."""
        return {**self.parameters, **self.buffers}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over an average; the counterpart of `state_dict`.

        Raises
        ------
        ValueError
            Names or shapes are not those of the model.
        """
        _copy(self.state_dict(), state)


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters())


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that the model saves; the others are constants."""
    saved = model.state_dict().keys()
    return {name: value for name, value in model.named_buffers() if name in saved}


def _check(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}: it must lie in [0, 1], such as 0.999")


def _match(average: Mapping[str, Tensor], online: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless names and shapes agree."""
    different = sorted(
        name
        for name in average.keys() | online.keys()
        if name not in average or name not in online or average[name].shape != online[name].shape
    )
    if different:
        raise ValueError(
            f"average and model differ in {', '.join(different[:3])}"
            f"{f' and {len(different) - 3} more' if len(different) > 3 else ''}: "
            "an average belongs to one structure; was the model changed or wrapped (module.)?"
        )


def _step(average: Mapping[str, Tensor], online: Mapping[str, Tensor], decay: float) -> None:
    _check(decay)
    if average:  # there is no step of an empty list
        step = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        step(list(average.values()), [online[name] for name in average], 0)


@torch.no_grad()
def _copy(into: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    _match(into, source)
    for name, value in into.items():
        value.copy_(source[name])
