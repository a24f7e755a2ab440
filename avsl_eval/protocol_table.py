"""The named protocols and suites: every published evaluator's rule, and ours.

Each was read from the named project's published code. Where that code does not settle a decision, the comment
says "our choice".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from avsl_eval.errors import EvalInputError, first_few, kind_of, unknown_name
from avsl_eval.protocol import Protocol, ProtocolSuite

TAU = 0.03
"""Temperature of EZ-VSL, SLAVC and FNAC: their models return cosine / tau."""

_VGGSS_LVS = (("vggss", 5158), ("flickr", 249))
_VGGSS_SLAVC = (("vggss", 5158), ("vggss-extended", 10316), ("flickr", 250), ("flickr-extended", 500))

_PUBLISHED = (
    Protocol(
        name="lvs",
        version=1,
        summary="half of the image: p above the median, saturated pixels join",
        source="Chen et al., Localizing Visual Sounds the Hard Way, CVPR 2021, its published test code",
        align_corners=False,
        normalisation="lvs_minmax",
        threshold="median",
        comparison=">",
        rescue_saturated=True,
        published_sizes=_VGGSS_LVS,
    ),
    Protocol(
        name="ezvsl",
        version=1,
        summary="half of the image: p at or above the median",
        source="Mo and Morgado, Localizing Visual Sounds the Easy Way, ECCV 2022, its and FNAC's test code",
        align_corners=True,
        normalisation="minmax",
        threshold="median",
        comparison=">=",
        published_sizes=_VGGSS_LVS,
    ),
    Protocol(
        name="ezvsl-val",
        version=1,
        summary="half of the image, as ezvsl, upsampled bicubically: what picked the published checkpoints",
        source="Mo and Morgado, Localizing Visual Sounds the Easy Way, ECCV 2022, its training code's "
        "validation; Sun et al., FNAC, CVPR 2023, its second one",
        interpolation="bicubic",
        align_corners=False,
        normalisation="minmax",
        threshold="median",
        comparison=">=",
    ),
    Protocol(
        name="slavc",
        version=1,
        summary="half of the image: p at or above the median; confidences for detection come with it",
        source="Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source Localization, NeurIPS "
        "2022, its published test code with relative prediction",
        interpolation="bicubic",
        align_corners=True,
        scale=TAU / 2,  # (x + 1/tau) / (2/tau): cosine / tau to [0, 1]
        offset=0.5,
        object_scale=1 / 2.5,
        normalisation="minmax",
        threshold="median",
        comparison=">=",
        confidence="top_quarter",
        published_sizes=_VGGSS_SLAVC,
    ),
    Protocol(
        name="slavc-absolute",
        version=1,
        summary="the model's own cosines: positive ones, with no normalisation per map",
        source="Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source Localization, NeurIPS "
        "2022, its published test code with absolute prediction",
        interpolation="bicubic",
        align_corners=True,
        scale=TAU / 2,
        offset=0.5,
        object_scale=1 / 2.5,
        normalisation="none",
        threshold="fixed",
        threshold_value=0.5,
        comparison=">=",
        confidence="top_quarter",
        published_sizes=_VGGSS_SLAVC,
    ),
    Protocol(
        name="htf",
        version=1,
        summary="half of the image: p above the median of a bicubic map, saturated pixels join",
        source="Fedorishin et al., Hear The Flow, WACV 2023, its published test code; SIRA's too",
        interpolation="bicubic",
        align_corners=False,
        normalisation="minmax",
        constant="empty",
        threshold="median",
        comparison=">",
        rescue_saturated=True,
        published_sizes=(("vggss", 4670), ("flickr", 178)),
    ),
    Protocol(
        name="sspl",
        version=1,
        summary="p at or above 0.5 of each map's own range: the mask's size is free",
        source="Song et al., Self-Supervised Predictive Learning, CVPR 2022, its published test code",
        align_corners=False,
        normalisation="minmax",
        constant="zero",
        threshold="fixed",
        threshold_value=0.5,
        comparison=">=",
        published_sizes=(("vggss", 4692), ("flickr", 249)),
    ),
    Protocol(
        name="ssltie",
        version=1,
        summary="half of the image, the rule of lvs, on a test set of its own",
        source="Liu et al., Exploiting Transformation Invariance and Equivariance for Self-Supervised Sound "
        "Localisation, ACM MM 2022, its published test code",
        align_corners=False,
        normalisation="lvs_minmax",
        threshold="median",
        comparison=">",
        rescue_saturated=True,
        published_sizes=(("vggss", 4911), ("flickr", 249)),
    ),
    Protocol(
        name="sslalignment",
        version=1,
        summary="half of the image: p above the median; saturated maps are not rescued",
        source="Senocak et al., Sound Source Localization is All about Cross-Modal Alignment, ICCV 2023, its "
        "published test code",
        align_corners=True,  # its own model on VGG-SS: False
        normalisation="minmax",
        threshold="median",
        comparison=">",
        published_sizes=(("vggss", 4655), ("flickr", 250), ("is3", 6480)),
    ),
    Protocol(
        name="adaptive",
        version=1,
        summary="as many pixels as the ground truth has: the true size is given away",
        source="Senocak et al., Sound Source Localization is All about Cross-Modal Alignment, ICCV 2023, its "
        "published test code",
        align_corners=True,
        normalisation="minmax",
        threshold="adaptive",
        comparison=">",
        published_sizes=(("vggss", 4655), ("flickr", 250), ("is3", 6480)),
    ),
    Protocol(
        name="acl",
        version=1,
        summary="sigmoid of logits at 19 thresholds, the best of which on the test set itself is reported",
        source="Park et al., Can CLIP Help Sound Source Localization?, WACV 2024, its published test code",
        interpolation="bicubic",
        align_corners=False,
        sigmoid=True,
        normalisation="none",
        threshold="sweep",
        thresholds=tuple(k / 20 for k in range(1, 20)),
        comparison=">=",
        confidence="max",
        published_sizes=(
            ("vggss", 5158),
            ("vggss-extended", 10316),
            ("flickr", 250),
            ("flickr-extended", 500),
        ),
    ),
    Protocol(
        name="rethinking",
        version=1,
        summary="p at or above 0.5 of each map's own range, and at or above its median",
        source="Wu et al., How to Listen? Rethinking Visual Sound Localization, Interspeech 2022, its "
        "published test code",
        align_corners=False,
        normalisation="minmax",
        constant="empty",  # our choice
        threshold="fixed",
        threshold_value=0.5,
        floor_at_median=True,
        comparison=">=",
        published_sizes=(("flickr", 249),),
    ),
    Protocol(
        name="vssl-eval",
        version=1,
        summary="raw values above one threshold per model, which its maps of negative audio set",
        source="Juanola et al., A Critical Assessment of Visual Sound Source Localization Models Including "
        "Negative Audio, ICASSP 2025, its published test code",
        align_corners=False,  # our choice
        normalisation="none",
        threshold="universal",
        comparison=">",
        published_sizes=(("vggss", 5158), ("is3", 6480)),
    ),
    Protocol(
        name="avsbench",
        version=1,
        summary="segmentation: sigmoid of logits above 0.5",
        source="Zhou et al., Audio-Visual Segmentation, ECCV 2022, its published test code",
        align_corners=False,  # our choice: its models predict at full size
        sigmoid=True,
        normalisation="none",
        threshold="fixed",
        threshold_value=0.5,
        comparison=">",
        task="segmentation",
        published_sizes=(("avsbench-s4", 3700), ("avsbench-ms3", 320)),
    ),
)

_OURS = (
    Protocol(
        name="fixed",
        version=1,
        summary="the model's own probabilities: p at or above 0.5",
        source="this project: the size of the prediction counts, and no map is stretched to its own range",
        align_corners=False,
        normalisation="none",
        threshold="fixed",
        threshold_value=0.5,
        comparison=">=",
        value_range=(0.0, 1.0),
    ),
    Protocol(
        name="strict-median",
        version=1,
        summary="exactly half of the image: ties are broken at random, for all alike",
        source="this project: the median rule without what ties and constant maps make of it",
        align_corners=False,
        normalisation="none",
        threshold="median",
        comparison=">=",
        exact_area=True,
    ),
    Protocol(
        name="strict-adaptive",
        version=1,
        summary="exactly as many pixels as the ground truth has: ties are broken at random, for all alike",
        source="this project: the adaptive rule without what ties and constant maps make of it",
        align_corners=False,
        normalisation="none",
        threshold="adaptive",
        comparison=">=",
        exact_area=True,
    ),
)

PROTOCOLS: MappingProxyType[str, Protocol] = MappingProxyType({p.name: p for p in (*_PUBLISHED, *_OURS)})
"""Every named protocol, by name."""

SUITES: MappingProxyType[str, ProtocolSuite] = MappingProxyType(
    {
        suite.name: suite
        for suite in (
            ProtocolSuite(
                name="strict",
                version=1,
                summary="our recommendation: masks of exactly the prescribed size, probabilities as they "
                "are, no clip left out",
                protocols=("strict-median", "strict-adaptive", "fixed"),
                missing="error",
            ),
            ProtocolSuite(
                name="published",
                version=1,
                summary="every published localisation rule that needs nothing but maps and boxes",
                protocols=tuple(
                    p.name for p in _PUBLISHED if p.task == "localisation" and p.threshold != "universal"
                ),
                skips_inapplicable=True,
            ),
            ProtocolSuite(
                name="all",
                version=1,
                summary="every protocol that the maps allow",
                protocols=tuple(PROTOCOLS),
                skips_inapplicable=True,
            ),
        )
    }
)
"""Every named suite, by name."""


def get_protocol(name: str) -> Protocol:
    """Look up a protocol by its name.

    Parameters
    ----------
    name
        One of `PROTOCOLS`.

    Returns
    -------
    Protocol
        The protocol of that name.

    Raises
    ------
    EvalInputError
        If there is none; the message suggests the nearest name and lists all. If it names a suite.

    Examples
    --------
    >>> get_protocol("ezvsl").comparison
    '>='
    """
    if name in SUITES:
        raise EvalInputError(
            f"{name} is a suite of protocols, and one is needed here: {first_few(SUITES[name].protocols, 20)}"
        )
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def _no_protocol(given: object) -> str:
    return (
        f"a protocol is {kind_of(given)}, not a name or a Protocol; known: {', '.join([*PROTOCOLS, *SUITES])}"
    )


def expand(
    names: str | Protocol | ProtocolSuite | Sequence[str | Protocol | ProtocolSuite],
) -> dict[str, tuple[Protocol, ProtocolSuite | None]]:
    """Turn names of protocols and suites into protocols.

    Parameters
    ----------
    names
        One or several; protocols and suites themselves may stand among them.

    Returns
    -------
    dict
        Name to (protocol, the suite that it came from or None where it was asked for itself), in order,
        without repetition.

    Raises
    ------
    EvalInputError
        If there is none, a name is unknown, or two different protocols have one name.

    Examples
    --------
    >>> list(expand(["lvs", "strict"]))
    ['lvs', 'strict-median', 'strict-adaptive', 'fixed']
    """
    wanted = [names] if isinstance(names, str | Protocol | ProtocolSuite) else names
    if not wanted:
        raise EvalInputError(f"no protocol is named; known: {', '.join([*PROTOCOLS, *SUITES])}")
    found: dict[str, tuple[Protocol, ProtocolSuite | None]] = {}
    if not isinstance(wanted, Iterable):
        raise EvalInputError(_no_protocol(names))
    for item in wanted:
        if not isinstance(item, str | Protocol | ProtocolSuite):
            raise EvalInputError(_no_protocol(item))
        suite = (
            SUITES.get(item) if isinstance(item, str) else item if isinstance(item, ProtocolSuite) else None
        )
        if suite is not None:
            for name in suite.protocols:
                found.setdefault(name, (get_protocol(name), suite))
            continue
        if isinstance(item, str) and item not in PROTOCOLS:
            raise unknown_name("protocol", item, [*PROTOCOLS, *SUITES])
        rule = item if isinstance(item, Protocol) else PROTOCOLS[str(item)]
        if rule.name in found and found[rule.name][0] != rule:
            raise EvalInputError(
                f"two different protocols are named {rule.name!r}; give yours a name of its own by "
                "dataclasses.replace(rule, name=...)"
            )
        found[rule.name] = (rule, None)
    return found
