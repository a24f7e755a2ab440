"""Contrastive losses by name, so that a semi-supervised method can be built on any of them.

Every one is called as ``loss(visual, audio, context)``. Most need the unit features alone; what else one
needs is named by its ``needs``, fields of `Context` that the method fills:

=============  ===================================================  ==============================
name           needs                                                loss
=============  ===================================================  ==============================
``ezvsl``      -                                                    `ezvsl.ezvsl`
``lvs``        -                                                    `lvs.lvs`
``htf``        -                                                    `htf.htf`
``fnac``       - (``warmed_up`` counts)                             `fnac.fnac`
``slavc``      ``second``, ``target``, ``target_second``            `slavc.slavc`
``ssltie``     ``moved``, ``transform``                             `ssltie.ssltie`
``alignment``  ``projected`` (``augmented``, ``neighbours`` count)  `alignment.alignment`
=============  ===================================================  ==============================

Features of a localizer have both signs, so that LVS's trimap leaves the own pair out of the negatives here
instead of multiplying it by -99 (`lvs.trimap_logits`); ``htf`` is then the same loss as ``lvs``.

With several processes the method gathers the features first (`gather.gathered`), those of the context too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from torch import Tensor

from avsl_train.losses.alignment import AlignmentView, alignment
from avsl_train.losses.ezvsl import ezvsl
from avsl_train.losses.fnac import fnac
from avsl_train.losses.lvs import lvs
from avsl_train.losses.similarity import Features
from avsl_train.losses.slavc import slavc
from avsl_train.losses.ssltie import Transform, ssltie


@dataclass(frozen=True)
class Context:
    """What a contrastive loss may need beside the unit features of the batch.

    Parameters
    ----------
    warmed_up
        Whether warm-up is over (FNAC).
    second
        The second head's features (SLAVC).
    target, target_second
        Both heads' features by the momentum encoders or the teacher (SLAVC).
    moved, transform
        Features of the second view, and T that its images went through (SSL-TIE).
    projected : pair of Tensor [B, C]
        Unit vectors of whole frames and whole sounds (Alignment).
    augmented, neighbours
        Further views (Alignment).
    """

    warmed_up: bool = True
    second: Features | None = None
    target: Features | None = None
    target_second: Features | None = None
    moved: Features | None = None
    transform: Transform | None = None
    projected: tuple[Tensor, Tensor] | None = None
    augmented: AlignmentView | None = None
    neighbours: AlignmentView | None = None


@dataclass(frozen=True)
class Contrastive:
    """A contrastive loss with the common signature.

    Parameters
    ----------
    name
        Its name in configurations.
    needs
        Fields of `Context` that must not be None.
    """

    name: str
    needs: tuple[str, ...]
    _loss: Callable[[Tensor, Tensor, Context], Tensor]

    def __call__(self, visual: Tensor, audio: Tensor, context: Context | None = None) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        visual : Tensor [B, C, h, w]
            Unit vectors of the positions.
        audio : Tensor [B, C]
            Unit vectors of the sounds.
        context
            Must hold what ``needs`` names.

        Raises
        ------
        ValueError
            The context lacks something.
        """
        context = Context() if context is None else context
        missing = [field for field in self.needs if getattr(context, field) is None]
        if missing:
            raise ValueError(
                f"the contrastive loss {self.name} needs {', '.join(missing)} in its context: "
                "a method that does not compute them can use one whose `needs` is empty, such as ezvsl"
            )
        return self._loss(visual, audio, context)


def contrastive(name: str) -> Contrastive:
    """Return a contrastive loss by its name.

    Raises
    ------
    ValueError
        No loss has this name; the nearest one is suggested.

    Examples
    --------
    >>> contrastive("slavc").needs
    ('second', 'target', 'target_second')
    """
    if name not in CONTRASTIVE:
        near = get_close_matches(name, CONTRASTIVE, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"no contrastive loss is called {name!r}: {hint}there are {', '.join(CONTRASTIVE)}")
    return CONTRASTIVE[name]


def _slavc(visual: Tensor, audio: Tensor, context: Context) -> Tensor:
    assert context.second is not None
    assert context.target is not None
    assert context.target_second is not None
    return slavc(Features(visual, audio), context.second, context.target, context.target_second)


def _ssltie(visual: Tensor, audio: Tensor, context: Context) -> Tensor:
    assert context.moved is not None
    assert context.transform is not None
    return ssltie(Features(visual, audio), context.moved, context.transform, "masked")


def _alignment(visual: Tensor, audio: Tensor, context: Context) -> Tensor:
    assert context.projected is not None
    plain = AlignmentView(visual, audio, *context.projected)
    return alignment(plain, context.augmented, context.neighbours)


CONTRASTIVE: Final[dict[str, Contrastive]] = {
    loss.name: loss
    for loss in (
        Contrastive("ezvsl", (), lambda visual, audio, _: ezvsl(visual, audio)),
        Contrastive("lvs", (), lambda visual, audio, _: lvs(visual, audio, diagonal="masked")),
        Contrastive("htf", (), lambda visual, audio, _: lvs(visual, audio, diagonal="masked")),
        Contrastive("fnac", (), lambda visual, audio, context: fnac(visual, audio, context.warmed_up)),
        Contrastive("slavc", ("second", "target", "target_second"), _slavc),
        Contrastive("ssltie", ("moved", "transform"), _ssltie),
        Contrastive("alignment", ("projected",), _alignment),
    )
}
"""Every contrastive loss by its name."""
