"""Losses of the published methods on cases that can be computed by hand, and properties of their parts."""

from __future__ import annotations

import math
import random

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
from avsl_train.losses.l2l import attention_likelihood, triplet
from avsl_train.losses.lvs import regions, trimap_logits, weighted_mean
from avsl_train.losses.similarity import Features, own_similarity, similarity
from avsl_train.losses.slavc import relation, slavc_map
from avsl_train.losses.sspl import attend, negative_cosine

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
        pytest.approx([1 / 1.00001, 0]),
        pytest.approx([0.6 / 0.60001, 0]),
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


# ---- SSL-TIE


def test_no_transform_changes_only_by_rounding() -> None:
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for flip, wanted in ((False, image), (True, image.flip(-1))):
        found = losses.Transform(1.0, torch.zeros(2), flip)(image)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("degrees", "column", "row"), [(0, 152, 112), (90, 112, 72), (-90, 112, 152), (180, 72, 112)]
)
def test_a_positive_angle_turns_to_the_left(degrees: int, column: int, row: int) -> None:
    image = torch.zeros(1, 1, 224, 224)
    image[..., 112, 152] = 1  # 40 pixels right of the middle
    turned = losses.Transform(1.0, torch.tensor([degrees]), flip=False)(image)
    assert divmod(int(turned.argmax()), 224) == (row, column)
    assert turned.max().item() == pytest.approx(1, abs=1e-3)


def test_every_clip_has_its_own_angle() -> None:
    image = torch.zeros(2, 1, 224, 224)
    image[..., 112, 152] = 1
    turned = losses.Transform(1.0, torch.tensor([90, -90]), flip=False)(image)
    assert [divmod(int(one.argmax()), 224) for one in turned] == [(72, 112), (152, 112)]


def test_scale_one_half_leaves_a_quarter_of_the_side() -> None:
    small = losses.Transform(0.5, torch.zeros(1), flip=False)(torch.ones(1, 1, 224, 224))
    assert small.shape == (1, 1, 112, 112)
    rows = small[0, 0, :, 56] > 0.5
    assert rows.nonzero().flatten().tolist() == list(range(28, 84))  # 56 of 112 rows: a quarter of 224


@pytest.mark.parametrize(("scale", "flip"), [(1.0, False), (1.0, True), (0.5, True)])
def test_maps_move_as_images_do(scale: float, flip: bool) -> None:
    row, column = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    coarse = torch.exp(-((row - 4) ** 2 + (column - 9) ** 2) / 20)[None, None]  # off the middle
    image = functional.interpolate(coarse, size=224, mode="bilinear", align_corners=False)
    transform = losses.Transform(scale, torch.tensor([25]), flip)
    side = int(14 * scale)
    of_image = functional.interpolate(transform(image), size=side, mode="bilinear", align_corners=False)
    assert transform(coarse).shape == (1, 1, side, side)
    assert (transform(coarse) - of_image).abs().max() < 0.05
    assert (transform(coarse).flip(-1) - of_image).abs().max() > 0.2


def test_the_transform_is_linear_and_has_the_gradient_of_its_value() -> None:
    draw = torch.Generator().manual_seed(0)
    transform = losses.Transform(0.5, torch.tensor([17]), flip=True)
    a, b = (torch.randn(1, 1, 6, 6, dtype=torch.float64, generator=draw) for _ in range(2))
    torch.testing.assert_close(transform(2 * a + b), 2 * transform(a) + transform(b))
    assert torch.autograd.gradcheck(transform, a.requires_grad_())


def test_draws_have_the_published_range_and_use_their_generator_only() -> None:
    draws = [losses.draw_transform(5, random.Random(seed)) for seed in range(300)]
    assert {draw.scale for draw in draws} == {0.5, 1.0}
    assert {draw.flip for draw in draws} == {False, True}
    angles = torch.cat([draw.degrees for draw in draws])
    assert (angles.min(), angles.max()) == (-30, 30)
    state = random.getstate()
    losses.draw_transform(5, random.Random(0))
    assert random.getstate() == state


def test_ssltie_of_a_view_that_did_not_move_is_lvs() -> None:
    draw = torch.Generator().manual_seed(0)
    view = Features(
        functional.normalize(torch.rand(3, 4, 14, 14, generator=draw), dim=1),
        functional.normalize(torch.rand(3, 4, generator=draw), dim=1),
    )
    still = losses.Transform(1.0, torch.zeros(3), flip=False)
    loss = losses.ssltie(view, view, still)
    blurred = functional.mse_loss(still(own_similarity(*view)), own_similarity(*view))  # by the way to 224
    assert loss.item() == pytest.approx((losses.lvs(*view) + blurred).item(), rel=1e-6)
    assert blurred < 0.01


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


# ---- HTF


def test_flow_attention_without_query_takes_the_mean() -> None:
    module = losses.FlowAttention(8)
    with torch.no_grad():
        module.query_conv.weight.zero_()
        module.query_conv.bias.zero_()
        module.value_conv.weight.copy_(torch.eye(8)[:, :, None, None])
        module.value_conv.bias.zero_()
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    out, attention = module(x, torch.randn(2, 8, 3, 3))
    torch.testing.assert_close(out, x.mean((2, 3), keepdim=True).expand_as(x))
    torch.testing.assert_close(attention, torch.full((2, 9, 9), 1 / 9))


def test_flow_chooses_where_to_look() -> None:
    module = losses.FlowAttention(8)
    x = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    flow = torch.randn(1, 8, 2, 2, requires_grad=True)
    out, attention = module(x, flow)
    torch.testing.assert_close(attention.sum(2), torch.ones(1, 4))
    out.square().sum().backward()
    assert flow.grad is not None
    assert flow.grad.abs().max() > 0
    swapped, turned = module(x, flow.detach().flip(-1))  # keys move with the flow, queries stay
    torch.testing.assert_close(turned.view(1, 4, 2, 2), attention.detach().view(1, 4, 2, 2).flip(-1))
    assert not torch.equal(swapped, out)


# ---- SSPL


def test_sspls_attention_by_hand() -> None:
    visual = torch.tensor([[3.0, 0.0], [0.0, 4.0]]).T[None, :, None]  # positions (3, 0) and (0, 4)
    found = attend(visual, torch.tensor([[2.0, 0.0]]))
    assert found.similarity.flatten().tolist() == [1, 0]
    assert found.attention.flatten().tolist() == [1, 0]
    assert found.feature.tolist() == [[3, 0]]


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_sspls_attention_does_not_hear_loudness(seed: int, scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    visual = torch.randn(2, 5, 3, 3, dtype=torch.float64, generator=draw)
    audio = torch.randn(2, 5, dtype=torch.float64, generator=draw)
    here, louder, brighter = (
        attend(visual, audio),
        attend(visual, scale * audio),
        attend(scale * visual, audio),
    )
    torch.testing.assert_close(louder.feature, here.feature)
    torch.testing.assert_close(brighter.attention, here.attention)
    torch.testing.assert_close(brighter.feature, scale * here.feature)
    assert here.attention.amin((2, 3)).eq(0).all()


def test_sspls_attention_has_the_gradient_of_its_value() -> None:
    draw = torch.Generator().manual_seed(0)
    visual = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=draw, requires_grad=True)
    audio = torch.randn(2, 3, dtype=torch.float64, generator=draw, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, a: attend(v, a).feature, (visual, audio))


def test_a_constant_frame_has_a_finite_gradient() -> None:
    visual = torch.ones(1, 3, 2, 2, requires_grad=True)
    attend(visual, torch.ones(1, 3)).feature.sum().backward()
    assert visual.grad is not None
    assert visual.grad.isfinite().all()


def test_simsiam_by_hand() -> None:
    p1, p2 = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    z1, z2 = torch.tensor([[5.0, 0.0]]), torch.tensor([[7.0, 0.0]])
    assert losses.simsiam(p1, p2, z1, z2).item() == -0.5  # cosines 1 and 0
    assert negative_cosine(p1, -z1).item() == 1
    assert losses.simsiam(p1, p2, z1, z2) == losses.simsiam(p2, p1, z2, z1)


def test_the_head_sees_each_view_by_itself() -> None:
    draw = torch.Generator().manual_seed(0)
    head = losses.SSPLHead(3, hidden=8, bottleneck=4)
    one, two = (torch.randn(4, 3, generator=draw) for _ in range(2))
    wanted = losses.simsiam(*(pair[0] for pair in (head(one), head(two))), head(one)[1], head(two)[1])
    assert losses.sspl(head, one, two).item() == pytest.approx(wanted.item(), abs=1e-6)
    _, z = head(one)
    torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-5, rtol=0)  # the last BN has no weights


# ---- PCM


def test_pcm_hears_the_sound_only_through_the_error_of_layer_0() -> None:
    torch.manual_seed(0)
    module = losses.PCM(channels=4, sound_channels=3).eval()
    frame, sound = torch.randn(2, 4, 14, 14), torch.rand(2, 3, requires_grad=True)
    out = module(frame, sound)
    assert out.shape == frame.shape
    out.square().sum().backward()
    assert sound.grad is not None
    assert sound.grad.abs().min() > 0
    with torch.no_grad():
        module.a0[0].fill_(-1)  # rectified: the error is not used
    assert torch.equal(module(frame, sound), module(frame, torch.zeros_like(sound)))


def test_pcm_starts_as_published() -> None:
    module = losses.PCM(channels=4, sound_channels=3)
    assert {value.unique().item() for value in module.a0} == {1.0}
    assert {value.unique().item() for value in module.b0} == {0.5}
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules()) == 25


# ---- Attention10k


def test_l2ls_attention_is_flat_where_nothing_is_heard() -> None:
    torch.manual_seed(0)
    module = losses.SoundAttention(channels=3, sound_channels=5)
    sound = torch.rand(1, 5)
    query = module.sound_fc2(module.sound_fc1(sound).relu())
    visual = -query[:, :, None, None].expand(-1, -1, 2, 2).detach()
    assert module(visual, sound).attention.flatten().tolist() == pytest.approx([0.25] * 4)
    visual = visual.clone()
    visual[..., 0, 1] *= -3  # cosine 1 there
    wanted = torch.tensor([0.0, 1.0, 0.0, 0.0]).softmax(0).tolist()
    assert module(visual, sound).attention.flatten().tolist() == pytest.approx(wanted)


def test_l2ls_triplet_by_hand() -> None:
    z = torch.zeros(1, 4, dtype=torch.float64)
    far = torch.full((1, 4), 0.5, dtype=torch.float64)  # distance 1
    softmax = math.e / (1 + math.e)
    assert triplet(z, far, z).item() == pytest.approx(softmax**2, rel=1e-5)
    assert triplet(z, z, far).item() == pytest.approx((1 - softmax) ** 2, rel=1e-5)


def test_l2ls_triplet_of_equal_vectors_has_a_finite_gradient() -> None:
    z = torch.zeros(2, 4, requires_grad=True)
    triplet(z, torch.zeros(2, 4), torch.ones(2, 4)).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_l2ls_likelihood_by_hand() -> None:
    attention, truth = torch.full((2, 1, 2, 2), 0.25), torch.zeros(2, 1, 2, 2)
    truth[:, 0, 0] = 1
    found = attention_likelihood(attention, truth, torch.tensor([True, False]))
    assert found.item() == pytest.approx(2 * math.log(4) / 2)  # a mean over both clips


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
