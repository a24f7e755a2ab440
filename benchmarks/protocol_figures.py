"""Write the tables of docs/protocols.md: what the rules are, and what they make of the same maps.

Usage: python benchmarks/protocol_figures.py --vggss vggss.json [--heard vggss_heard_test.csv
       --unheard vggss_unheard_test.csv] [--write docs/protocols.md]

``vggss.json`` is published at https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way (metadata), the
other lists at https://github.com/stoneMo/EZ-VSL (metadata). Without ``--write`` the tables are printed.
Tables stand between the markers ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl_eval import PROTOCOLS, Protocol, Scores, evaluate_all
from avsl_eval.maps import binarise, tie_free_area, to_probability
from avsl_eval.truth import Annotations, read_annotations

Maps = NDArray[np.float32]

TAU = 0.03
"""Temperature that EZ-VSL's and SLAVC's models divide their cosines by."""

LOGIT_SCALE = 0.1
"""Width of the sigmoid that makes probabilities of the simulated maps' cosines."""

SIMULATED = ("lvs", "ezvsl", "ezvsl-val", "slavc", "slavc-absolute", "htf", "sspl", "ssltie", "sslalignment",
             "rethinking", "acl", "adaptive", "fixed", "strict-median", "strict-adaptive")  # fmt: skip
CONTEXT = {
    "ceiling": "ceiling",
    "center_prior": "centred disc",
    "mean_truth_prior": "mean truth of other clips",
    "whole_image": "whole image",
}


def rules_table() -> str:
    """Lay out what every rule does, a row each."""
    lines = [
        "| protocol | upsampled to 224 | p | constant map | mask | pixels without ties |",
        "|---|---|---|---|---|---|",
    ]
    for rule in PROTOCOLS.values():
        corners = "`align_corners`" if rule.align_corners else "not `align_corners`"
        area = tie_free_area(rule, 10_000)
        size = "the model decides" if area is None else f"{area}"
        if rule.threshold == "adaptive":
            size = "k" if rule.exact_area else "k - 1"
        cells = (
            f"`{rule.name}`",
            f"{rule.interpolation}, {corners}",
            _values(rule),
            _constant(rule),
            _mask(rule),
        )
        lines.append("| " + " | ".join((*cells, size)) + " |")
    return "\n".join(lines)


def _values(rule: Protocol) -> str:
    s = "x"
    if (rule.scale, rule.offset) != (1, 0):
        s = f"s = {rule.scale:g} x + {rule.offset:g}"
    if rule.sigmoid:
        s = "sigmoid of logits"
    return {"none": s, "minmax": f"minmax of {s}", "lvs_minmax": "1 - minmax of -x"}[rule.normalisation]


def _constant(rule: Protocol) -> str:
    if rule.normalisation == "none":
        return "as it is"
    return {"keep": "keeps its values", "zero": "becomes 0", "empty": "no mask"}[rule.constant]


def _mask(rule: Protocol) -> str:
    threshold = {
        "median": "sorted[25088]",
        "adaptive": "sorted[50176 - k]",
        "fixed": f"{rule.threshold_value or 0:g}",
        "sweep": "each of .05, .10, ..., .95; the best is reported",
        "universal": "one value from negative maps",
    }[rule.threshold]
    text = f"p {rule.comparison} {threshold}"
    if rule.floor_at_median:
        text += ", p below sorted[25088] set to 0"
    if rule.rescue_saturated:
        text += ", or p >= 1"
    if rule.exact_area:
        text += ", ties broken to exactly k"
    return text


def simulate(annotations: Annotations, seed: int = 0) -> dict[str, Maps]:
    """Simulate a model of middling skill: one 14 x 14 map of cosines per clip.

    A Gaussian of about the first box's size, its centre off by a tenth of the image, over smooth noise. Clips
    without a usable box get the noise alone.
    """
    rng = np.random.default_rng(seed)
    grid = (np.arange(14) + 0.5) / 14
    maps = {}
    for clip in annotations.clips:
        noise = np.kron(rng.normal(0, 0.12, (7, 7)), np.ones((2, 2)))
        off, spread = rng.normal(0, 0.1, 2), np.exp(rng.normal(0, 0.3))
        peak = 0.0
        x0, y0, x1, y1 = clip.boxes[0] if len(clip.boxes) else (0.0, 0.0, 1.0, 1.0)
        if len(clip.boxes):
            peak = 0.9
        across = (grid - (x0 + x1) / 2 - off[0]) / (spread * max(x1 - x0, 0.15) / 2)
        down = (grid - (y0 + y1) / 2 - off[1]) / (spread * max(y1 - y0, 0.15) / 2)
        bump = np.exp(-0.5 * (across[None, :] ** 2 + down[:, None] ** 2))
        maps[clip.clip_id] = np.clip(peak * bump - 0.3 + noise, -1, 1).astype(np.float32)
    return maps


def as_input(maps: Mapping[str, Maps], rule: str) -> dict[str, Maps]:
    """Convert cosines to what the models of a rule return."""
    if rule in {"slavc", "slavc-absolute"}:
        return {clip: m / np.float32(TAU) for clip, m in maps.items()}
    if rule == "acl":
        return {clip: m / np.float32(LOGIT_SCALE) for clip, m in maps.items()}
    if rule == "fixed":
        return {clip: 1 / (1 + np.exp(-m / np.float32(LOGIT_SCALE))) for clip, m in maps.items()}
    return dict(maps)


def score_simulated(annotations: Annotations, seed: int = 0) -> dict[str, Scores]:
    """Score the same simulated maps under every rule that needs no more than maps and boxes."""
    maps = simulate(annotations, seed)
    found: dict[str, Scores] = {}
    groups: dict[str, list[str]] = {}
    for rule in SIMULATED:
        groups.setdefault(rule if rule in {"acl", "fixed"} or "slavc" in rule else "", []).append(rule)
    for rules in groups.values():
        found |= evaluate_all(as_input(maps, rules[0]), annotations, rules)
    return {rule: found[rule] for rule in SIMULATED}


def context_table(scores: Mapping[str, Scores]) -> str:
    """Lay out what each rule allows and gives away, beside the simulated model."""
    lines = ["| protocol | " + " | ".join(CONTEXT.values()) + " | simulated maps |", "|---" * 6 + "|"]
    for name, one in scores.items():
        cells = [_pair(one.context[answer]) for answer in CONTEXT]
        lines.append(f"| `{name}` | " + " | ".join([*cells, _pair(one.metrics)]) + " |")
    return "\n".join(lines)


def _pair(values: Mapping[str, float]) -> str:
    return f"{100 * values['ciou@0.5']:.2f} / {100 * values['auc']:.2f}"


def subsets_table(annotations: Annotations, lists: Mapping[str, Path]) -> str:
    """Lay out what `ezvsl` allows on subsets of the clips."""
    rows = [("all", annotations)]
    for name, path in lists.items():
        wanted = set(re.findall(r"^([\w-]{11}_\d{6})", path.read_text(), re.MULTILINE))
        chosen = tuple(clip for clip in annotations.clips if clip.clip_id in wanted)
        rows.append((name, dataclasses.replace(annotations, clips=chosen)))
    lines = ["| clips | n | " + " | ".join(CONTEXT.values()) + " |", "|---" * 6 + "|"]
    for name, part in rows:
        blank = {clip.clip_id: np.zeros((2, 2), np.float32) for clip in part.clips}
        context = evaluate_all(blank, part, "ezvsl")["ezvsl"].context
        cells = " | ".join(_pair(context[answer]) for answer in CONTEXT)
        lines.append(f"| {name} | {len(part.clips)} | {cells} |")
    return "\n".join(lines)


DEGENERATE = {
    "constant, -0.3": np.full((224, 224), -0.3, np.float32),
    "constant, 0": np.zeros((224, 224), np.float32),
    "constant, +0.3": np.full((224, 224), 0.3, np.float32),
    "two thirds of the pixels at the maximum": None,
    "two thirds of the pixels at the minimum": None,
    "one hot pixel": None,
}


def degenerate_maps() -> dict[str, Maps]:
    """Draw maps whose mask is decided by how a rule treats ties."""
    ramp = np.linspace(0.1, 0.8, 74 * 224, dtype=np.float32).reshape(74, 224)
    at_most = np.concatenate([ramp, np.full((150, 224), 0.9, np.float32)])
    at_least = np.concatenate([ramp, np.zeros((150, 224), np.float32)])
    hot = np.zeros((224, 224), np.float32)
    hot[100, 100] = 0.9
    drawn = (at_most, at_least, hot)
    rest = iter(drawn)
    return {name: next(rest) if values is None else values for name, values in DEGENERATE.items()}


def degenerate_table() -> str:
    """Lay out how many pixels the masks of degenerate maps have."""
    rules = [rule for rule in PROTOCOLS.values() if rule.is_rank_rule or rule.threshold == "fixed"]
    lines = [
        "| map | " + " | ".join(f"`{rule.name}`" for rule in rules) + " |",
        "|---" * (len(rules) + 1) + "|",
    ]
    for name, values in degenerate_maps().items():
        cells = []
        for rule in rules:
            p = to_probability(values[None], rule)
            area = int(np.count_nonzero(binarise(p, rule, [4320])))
            cells.append({0: "none", 50176: "**all**"}.get(area, str(area)))
            low, high = rule.value_range or (-np.inf, np.inf)
            if values.min() < low or values.max() > high:
                cells[-1] = "refused"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(vggss: Path, lists: Mapping[str, Path]) -> dict[str, str]:
    """Make every table.

    Parameters
    ----------
    vggss
        The published boxes.
    lists
        Subset name to a published list of ids.

    Returns
    -------
    dict
        Name of the marker to Markdown.
    """
    annotations = read_annotations(vggss)
    return {
        "rules": rules_table(),
        "context": context_table(score_simulated(annotations)),
        "subsets": subsets_table(annotations, lists),
        "degenerate": degenerate_table(),
    }


def fill(text: str, made: Mapping[str, str]) -> str:
    """Put tables between their markers."""
    for name, table in made.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, n = pattern.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
        if n != 1:
            raise SystemExit(f"the page has {n} places marked <!-- table {name} -->; expected one")
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vggss", type=Path, required=True)
    parser.add_argument("--heard", type=Path)
    parser.add_argument("--unheard", type=Path)
    parser.add_argument("--write", type=Path, metavar="MD")
    arguments = parser.parse_args(argv)
    logging.getLogger("avsl_eval").setLevel(logging.ERROR)  # the blank maps are constant, and meant to be
    lists = {name: path for name in ("heard", "unheard") if (path := getattr(arguments, name))}
    made = tables(arguments.vggss, lists)
    if arguments.write:
        page = fill(arguments.write.read_text(), made)
        arguments.write.write_text(page)
    else:
        sys.stdout.write("\n\n".join(f"{name}\n\n{table}" for name, table in made.items()) + "\n")


if __name__ == "__main__":
    main()
