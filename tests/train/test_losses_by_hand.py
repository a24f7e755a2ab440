"""Losses of the published methods on cases that can be computed by hand, and properties of their parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from avsl_train import losses
from avsl_train.losses.alignment import AlignmentView, alignment_logits
from avsl_train.losses.fnac import fnac_terms, foreground, normalized_map
from avsl_train.losses.lvs import regions, trimap_logits, weighted_mean
from avsl_train.losses.similarity import Features, own_similarity, similarity
from avsl_train.losses.slavc import relation, slavc_map

EYE = torch.eye(2, dtype=torch.float64)
PIXELS = EYE[:, :, None, None]
"""Two clips of one position; S is the identity, so every weighted mean is S itself."""


def both(first: float, second: float) -> Tensor:
    """Return one clip of one row of two positions whose similarity with the sound (1, 0) is as told."""
    columns = [[value, math.sqrt(1 - value**2)] for value in (first, second)]
    return torch.tensor(columns, dtype=torch.float64).T[None, :, None]


SOUND = torch.tensor([[1.0, 0.0]], dtype=torch.float64)


# ---- LVS


def test_lvs_of_two_clips() -> None:
    # logits of row i: [P, N_ii, N_ij, H] / .07 = [1, -99, 0, 1] / .07
    logits = trimap_logits(PIXELS, EYE)
    assert (logits * 0.07).round(decimals=9).tolist() == [[1, -99, 0, 1], [1, 0, -99, 1]]
    wanted = math.log(2 + math.exp(-1 / 0.07))
    assert losses.lvs(PIXELS, EYE).item() == pytest.approx(wanted)


def test_lvs_without_hard_negatives() -> None:
    wanted = math.log(1 + math.exp(-1 / 0.07))
    assert losses.lvs(PIXELS, EYE, hard_negatives=False).item() == pytest.approx(wanted)


def test_lvs_weighs_the_positions() -> None:
    # S = .65, .68: weights sig(0), sig(1); and for Neg sig(-.25/.03), sig(-.28/.03)
    one, e = 0.5, 1 / (1 + math.exp(-1))
    hard = [1 / (1 + math.exp(excess / 0.03)) for excess in (0.25, 0.28)]
    p = (one * 0.65 + e * 0.68) / (one + e)
    h = (hard[0] * 0.65 + hard[1] * 0.68) / sum(hard)
    found = trimap_logits(both(0.65, 0.68), SOUND) * 0.07
    assert found[0].tolist() == pytest.approx([p, -99 * p, h])


def test_a_negative_own_mean_rules_the_loss() -> None:
    logits = trimap_logits(both(-0.5, -0.5), SOUND)
    assert logits[0].tolist() == pytest.approx([-0.5 / 0.07, 99 * 0.5 / 0.07, -0.5 / 0.07])


def test_lvs_of_a_map_that_sounds_everywhere_is_finite() -> None:
    visual = torch.ones(1, 1, 3, 3, requires_grad=True)
    loss = losses.lvs(visual, torch.ones(1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))  # P = H = 1, the diagonal is out
    assert visual.grad is not None
    assert visual.grad.isfinite().all()


@given(s=st.floats(-1, 1))
def test_the_trimap_ignores_what_lies_between(s: float) -> None:
    pos, neg = regions(torch.tensor(s, dtype=torch.float64))
    assert 0 <= pos + neg < 1.05
    assert (pos > 0.5) == (s > 0.65)
    assert (neg > 0.5) == (s < 0.4)


def test_a_weighted_mean_by_hand() -> None:
    values, weights = torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 1.0]])
    assert weighted_mean(values, weights) == 2


# ---- similarity


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_own_similarity_is_the_diagonal(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    visual, audio = torch.randn(3, 4, 2, 2, generator=draw), torch.randn(3, 4, generator=draw)
    pairs = similarity(visual, audio)
    own = own_similarity(visual, audio)
    for i in range(3):
        torch.testing.assert_close(own[i, 0], pairs[i, i])


def test_rows_are_frames_and_columns_sounds() -> None:
    visual = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None]
    assert similarity(visual, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))[..., 0, 0].tolist() == [[1, 2], [3, 4]]


# ---- FNAC


def test_fnac_of_two_clips() -> None:
    # one position: S - min = 0, so no foreground, F = 0, f = 1/2; A = Q = V are the softmax of the identity
    terms = fnac_terms(PIXELS, EYE)
    assert terms.audio_suppression.item() == 0
    assert terms.visual_suppression.item() == 0
    own = 1 / (1 + math.exp(-1 / 0.03))
    assert terms.enhancement.item() == pytest.approx(own - 0.5)
    wanted = 2 * math.log(1 + math.exp(-1 / 0.03)) + 100 * (own - 0.5)
    assert losses.fnac(PIXELS, EYE).item() == pytest.approx(wanted)
    assert losses.fnac(PIXELS, EYE, warmed_up=False).item() == losses.ezvsl(PIXELS, EYE).item()


def test_the_foreground_is_divided_by_all_positions() -> None:
    visual = torch.cat([both(1.0, 0.0), both(0.6, 0.0)])  # the first position is the brightest of either
    audio = SOUND.expand(2, -1)
    assert normalized_map(visual, audio).flatten(1).tolist() == [
        pytest.approx([best / 0.03 / (best / 0.03 + 1e-5), 0], rel=1e-9) for best in (1.0, 0.6)
    ]
    torch.testing.assert_close(foreground(visual, audio), visual[:, :, 0, 0] / 2)


def test_both_sides_of_every_fnac_term_get_gradient() -> None:
    draw = torch.Generator().manual_seed(0)
    visual = functional.normalize(torch.randn(4, 6, 3, 3, generator=draw), dim=1).requires_grad_()
    audio = functional.normalize(torch.randn(4, 6, generator=draw), dim=1).requires_grad_()
    terms = fnac_terms(visual, audio)
    for term in (terms.audio_suppression, terms.enhancement, terms.visual_suppression):
        of_visual, of_audio = torch.autograd.grad(term, (visual, audio), retain_graph=True)
        assert of_visual.abs().max() > 0
        assert of_audio.abs().max() > 0


# ---- SLAVC


def test_slavc_of_two_clips() -> None:
    # one position: the softmax over positions is 1, what is left is CE over sounds, twice
    plain = Features(PIXELS, EYE)
    loss = losses.slavc(plain, plain, plain, plain, tau=1.0)
    assert loss.item() == pytest.approx(2 * math.log(1 + math.exp(-1)))


def test_slavcs_relation_by_hand() -> None:
    # clip 1 has two positions, S to the two sounds (1, 0) and (0, 1) is (1, 0) and (0, 1)
    visual = torch.stack([EYE, EYE])[:, :, None]  # [2, 2, 1, 2]
    e = math.e
    by_sound, by_position = e / (1 + e), e / (1 + e)  # tau 1: of the near sound, of the near position
    wanted = math.log(by_sound * by_position + (1 - by_sound) * (1 - by_position))
    plain = Features(visual, EYE)
    assert relation(plain, plain, tau=1.0).flatten().tolist() == pytest.approx([wanted] * 4)


def test_slavcs_first_softmax_runs_over_sounds_in_both_directions() -> None:
    draw = torch.Generator().manual_seed(0)
    plain = Features(torch.randn(3, 4, 1, 1, generator=draw), torch.randn(3, 4, generator=draw))
    rows = relation(plain, plain, tau=1.0).exp()
    torch.testing.assert_close(rows.sum(1), torch.ones(3))
    assert (rows.sum(0) - 1).abs().max() > 0.1


def test_slavcs_map_is_the_mean_of_both_heads() -> None:
    first, second = Features(both(0.6, 0.0), SOUND), Features(both(0.0, 1.0), SOUND)
    assert (slavc_map(first, second) * 0.03).flatten().tolist() == pytest.approx([0.3, 0.5])


def test_slavcs_published_supervised_loss_depends_on_the_batch() -> None:
    own = torch.tensor([[0.0, 1.0], [0.0, 3.0]])[:, None, None]  # [2, 1, 1, 2]; p = 0, 1/3 and 0, 1
    truth = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[:, None, None]
    of_first = losses.slavc_supervised_as_published(own, truth, torch.tensor([True, False]))
    assert of_first.item() == pytest.approx(math.log(3) / 4)  # a mean over all four pixels
    alone = losses.slavc_supervised_as_published(own[:1], truth[:1], torch.tensor([True]))
    assert alone.item() == 0
    # the loss that training uses does neither
    corrected = losses.supervised(own, truth, torch.tensor([True, False]))
    assert corrected.item() == losses.supervised(own[:1], truth[:1], torch.tensor([True])).item()


# ---- Alignment


def test_alignment_of_two_clips() -> None:
    view = AlignmentView(PIXELS, EYE, EYE, EYE)
    term = math.log(1 + math.exp(-1 / 0.07))
    assert losses.alignment(view, projected=False).item() == pytest.approx(term)
    assert losses.alignment(view).item() == pytest.approx(2 * term)
    assert losses.alignment(view, view).item() == pytest.approx(8 * term)
    assert losses.alignment(view, view, view).item() == pytest.approx(18 * term)
    assert losses.alignment(view, view, view, intra=True).item() == pytest.approx(22 * term)
    assert losses.alignment(view, neighbours=view, intra=True).item() == pytest.approx(10 * term)


def test_alignments_softmax_runs_over_sounds() -> None:
    sounds = torch.stack([EYE[0], EYE[0]])
    view = AlignmentView(PIXELS, sounds, EYE, sounds)
    # row 1 is [1, 1], row 2 is [0, 0]: log 2 either way; over frames, column 2 would cost 1/.07
    assert losses.alignment(view, projected=False).item() == pytest.approx(math.log(2))
    assert len(alignment_logits(view)) == 2


# ---- slow oracles


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_lvs_equals_a_slow_oracle(seed: int) -> None:
    draw = np.random.default_rng(seed)
    visual, audio = np.abs(draw.normal(size=(3, 4, 2, 2))), np.abs(draw.normal(size=(3, 4)))
    visual /= np.linalg.norm(visual, axis=1, keepdims=True)
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)

    def sig(x: float) -> float:
        return 1 / (1 + math.exp(-x / 0.03))

    def mean(weights: list[float], values: list[float]) -> float:
        return sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)

    total = 0.0
    for i in range(3):
        maps = [[float(visual[i, :, y, x] @ a) for y in range(2) for x in range(2)] for a in audio]
        own = maps[i]
        row = [mean([sig(s - 0.65) for s in own], own)]
        row += [
            mean([sig(s - 0.65) for s in one], one) * (-99 if j == i else 1) for j, one in enumerate(maps)
        ]
        row.append(mean([sig(0.4 - s) for s in own], own))
        top = max(row)
        total += math.log(sum(math.exp((x - top) / 0.07) for x in row)) - (row[0] - top) / 0.07
    found = losses.lvs(torch.from_numpy(visual), torch.from_numpy(audio))
    assert found.item() == pytest.approx(total / 3, rel=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_slavcs_relation_equals_a_slow_oracle(seed: int) -> None:
    draw = np.random.default_rng(seed)
    v1, v2 = draw.normal(size=(2, 3, 4, 2, 1))
    a1, a2 = draw.normal(size=(2, 3, 4))
    wanted = np.zeros((3, 3))
    for n in range(3):
        for m in range(3):
            total = 0.0
            for p in range(2):
                over_sounds = [math.exp(v1[n, :, p, 0] @ a) for a in a1]
                over_positions = [math.exp(v2[n, :, q, 0] @ a2[m]) for q in range(2)]
                total += over_sounds[m] / sum(over_sounds) * over_positions[p] / sum(over_positions)
            wanted[n, m] = math.log(total)
    first = Features(torch.from_numpy(v1), torch.from_numpy(a1))
    second = Features(torch.from_numpy(v2), torch.from_numpy(a2))
    np.testing.assert_allclose(relation(first, second, tau=1.0).numpy(), wanted, rtol=1e-9)


def test_slavc_of_far_apart_features_is_finite() -> None:
    """The product of the two softmaxes underflows in single precision; its logarithm does not."""
    axis = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    visual = torch.stack([axis, -axis])[:, :, None].permute(0, 3, 2, 1).contiguous().requires_grad_()
    plain, crossed = Features(visual, axis), Features(-visual, axis)
    loss = losses.slavc(plain, crossed, plain, crossed)
    loss.backward()
    assert loss.isfinite()
    assert visual.grad is not None
    assert visual.grad.isfinite().all()


def test_the_own_pair_can_be_left_out_of_the_negatives() -> None:
    """Where it is opposed to its own sound, the published factor of -99 makes it the largest logit of all."""
    visual = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])[:, :, None, None]
    audio = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    published = trimap_logits(visual, audio)
    masked = trimap_logits(visual, audio, diagonal="masked")
    own = torch.tensor([[False, True, False, False], [False, False, True, False]])
    assert published[0, 1].item() == pytest.approx(99 / 0.07)
    assert published[1, 2].item() == pytest.approx(-99 * 0.8 / 0.07)
    assert (masked[own] == -torch.inf).all()
    torch.testing.assert_close(masked[~own], published[~own])
    assert losses.lvs(visual, audio) > 500
    assert losses.lvs(visual, audio, diagonal="masked") < 40
