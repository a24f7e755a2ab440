"""SSL-TIE's transform, and losses with weights: attention of HTF and Attention10k, head and PCM of SSPL."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from avsl_train import losses
from avsl_train.losses.l2l import attention_likelihood, triplet
from avsl_train.losses.similarity import Features, own_similarity
from avsl_train.losses.sspl import attend, negative_cosine

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
