"""Losses against the vectors of the original code: values, intermediates, gradients; none is left out.

A case recomputes everything that is stored under its tag. What a tag holds and no case recomputes must be
listed as an input, so that a vector cannot be forgotten.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from avsl_train import losses
from avsl_train.losses.alignment import alignment_logits
from avsl_train.losses.ezvsl import instance_logits
from avsl_train.losses.fnac import adjacency_logits, fnac_terms, foreground, normalized_map
from avsl_train.losses.l2l import Heard, attention_likelihood, triplet
from avsl_train.losses.lvs import regions, trimap_logits
from avsl_train.losses.similarity import Features, diagonal_cross_entropy, own_similarity, similarity
from avsl_train.losses.slavc import relation, relation_factors, slavc_map
from avsl_train.losses.sspl import attend, simsiam

Found = dict[str, Any]
Case = Callable[["Stored", str], Found]

INPUTS = {
    "lvs": {"img_raw", "aud_raw"},
    "lvs_negdiag": {"img_raw", "aud_raw"},
    "feats7": {"img", "aud"},
    "slavc": {"img2", "aud2", "img1_trg", "aud1_trg", "img2_trg", "aud2_trg"},
    "slavc_sup": {"avl_map", "gt_times2", "gt_mask"},
    "fnac": {"img", "aud"},
    "ssltie": {"img1_raw", "img2_raw_14", "img2_raw_7", "aud_raw"},
    **{f"ssltie_{case}": {"python_random_seed"} for case in ("s1_f0", "s1_f1", "shalf_f0", "shalf_f1")},
    "alignment": {
        f"{view}{name}"
        for view in ("", "aug_", "offhp_")
        for name in ("img_feature", "aud_feature", "img_p_feature", "aud_p_feature")
    },
    "htf": {"img", "aud"},
    "htf_attn": {"x", "flow", "w"},
    "simsiam": {"p1", "p2", "z1", "z2"},
    "sspl": {"vis_view1", "vis_view2", "aud_patches"},
    "l2l": {"vis_dir", "worker_gt", "weights"},
    "l2l_triplet": {"f_v", "f_pos", "f_neg"},
}
"""Keys that are inputs of the originals, by tag."""

TIGHT = {"fnac.loc_map": 2e-6}
"""Tolerances below the stated ones: they tell S / .03 + 1e-5 from S + 1e-5."""


class Stored:
    """The stored vectors."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "losses.npz") as arrays:
            self.arrays = dict(arrays)
        text: dict[str, Any] = json.loads((folder / "losses.json").read_text())
        self.facts = {tag: value for tag, value in text.items() if not tag.startswith("_")}

    @property
    def tags(self) -> set[str]:
        """Every tag of both files."""
        return {key.split(".")[0] for key in self.arrays} | set(self.facts)

    def input(self, key: str) -> Tensor:
        """Return an input that records its gradient."""
        return torch.from_numpy(self.arrays[key]).requires_grad_()

    def wanted(self, tag: str) -> Found:
        """Return every array, number and list of numbers of a tag."""
        found: Found = {
            key.removeprefix(f"{tag}."): value
            for key, value in self.arrays.items()
            if key.startswith(f"{tag}.")
        }
        found.update(numbers(self.facts.get(tag, {})))
        return found


def numbers(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is a number, or a list of them, and the names and shapes of a state_dict as one."""
    for name, value in facts.items():
        if name in ("keys", "head_keys"):
            yield f"{prefix}{name}", value
        elif isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, list) and not any(isinstance(item, str) for item in value):
            yield f"{prefix}{name}", np.array([item for item in value if item is not None])
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


@pytest.fixture(scope="module")
def stored(shared: Path) -> Stored:
    return Stored(shared / "golden/models")


def recipe(name: str, shape: torch.Size) -> Tensor:
    """Return a weight by the rule that filled the originals."""
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros((), dtype=torch.long)
    if leaf == "running_var":
        draw = 1 + 0.1 * np.abs(draw)
    elif leaf in ("running_mean", "bias"):
        draw = 0.1 * draw
    elif name.removeprefix("pcm.").startswith("a0."):
        draw = 1 + 0.1 * draw
    elif name.removeprefix("pcm.").startswith("b0."):
        draw = 0.5 + 0.1 * draw
    elif len(shape) == 1:
        draw = 1 + 0.1 * draw
    else:
        draw = draw * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(draw, np.float32))


def fill(module: nn.Module, prefix: str = "") -> nn.Module:
    """Fill a module by the recipe."""
    module.load_state_dict({name: recipe(prefix + name, x.shape) for name, x in module.state_dict().items()})
    return module


def shapes(module: nn.Module) -> dict[str, list[int]]:
    """Return names and shapes of a module's state."""
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def gradient_norms(module: nn.Module) -> dict[str, float]:
    """Return the length of every parameter's gradient."""
    return {
        name: float(parameter.grad.double().norm())
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def unit_audio(raw: Tensor) -> Tensor:
    """Return the unit vectors [B, C] of a map of raw audio features [B, C, F, T], as the models do."""
    return functional.normalize(raw.amax((2, 3)), dim=1)


def lvs_case(stored: Stored, tag: str, source: str, **options: Any) -> Found:
    image, audio = stored.input(f"{source}.img_raw"), stored.input(f"{source}.aud_raw")
    visual, heard = functional.normalize(image, dim=1), unit_audio(audio)
    loss = losses.lvs(visual, heard, **options)
    loss.backward()
    own = own_similarity(visual, heard)
    pos, neg = regions(own)
    return {
        "A": own,
        "Pos": pos,
        "Neg": neg,
        "logits": trimap_logits(visual, heard, **options),
        "loss": loss,
        "S_ii_min": own.min(),
        "S_ii_max": own.max(),
        "grad_img_raw": image.grad,
        "grad_aud_raw": audio.grad,
    }


def ezvsl_case(stored: Stored, tag: str) -> Found:
    image, audio = stored.input("feats7.img"), stored.input("feats7.aud")
    loss = losses.ezvsl(image, audio)
    loss.backward()
    return {
        "loss": loss,
        "Slogits": similarity(image, audio) / losses.TAU,
        "logits": instance_logits(image, audio),
        "Savl": own_similarity(image, audio)[:, 0] / losses.TAU,
        "grad_img": image.grad,
        "grad_aud": audio.grad,
    }


def slavc_case(stored: Stored, tag: str) -> Found:
    first = Features(stored.input("feats7.img"), stored.input("feats7.aud"))
    second = Features(stored.input("slavc.img2"), stored.input("slavc.aud2"))
    target = Features(stored.input("slavc.img1_trg"), stored.input("slavc.aud1_trg"))
    target_2 = Features(stored.input("slavc.img2_trg"), stored.input("slavc.aud2_trg"))
    loss = losses.slavc(first, second, target, target_2)
    loss.backward()
    assert [x.grad for x in (*target, *target_2)] == [None] * 4
    i2a = Features(first.visual, target.audio), Features(second.visual, target_2.audio)
    a2i = Features(target.visual, first.audio), Features(target_2.visual, second.audio)
    factors = [factor.exp() for pair in (i2a, a2i) for factor in relation_factors(*pair)]
    return {
        "loss": loss,
        "ce_i2a": diagonal_cross_entropy(relation(*i2a)),
        "ce_a2i": diagonal_cross_entropy(relation(*a2i)),
        "i2a": relation(*i2a),
        "a2i": relation(*a2i),
        **dict(zip(("i2a_1", "i2a_2", "a2i_1", "a2i_2"), factors, strict=True)),
        "Savl_online": slavc_map(first, second)[:, 0],
        "Savl_mom": slavc_map(target, target_2)[:, 0],
        "grad_img1": first.visual.grad,
        "grad_aud1": first.audio.grad,
        "grad_img2": second.visual.grad,
        "grad_aud2": second.audio.grad,
    }


def slavc_sup_case(stored: Stored, tag: str) -> Found:
    own = stored.input("slavc_sup.avl_map")
    truth = torch.from_numpy(stored.arrays["slavc_sup.gt_times2"] / np.float32(2))[:, None]
    labeled = torch.from_numpy(stored.arrays["slavc_sup.gt_mask"]) > 0
    loss = losses.slavc_supervised_as_published(own[:, None], truth, labeled)
    loss.backward()
    singly = [
        losses.slavc_supervised_as_published(own[i : i + 1, None], truth[i : i + 1], labeled[i : i + 1])
        for i in range(len(own))
    ]
    alone = torch.stack(singly)
    return {
        "loss": loss,
        "loss_one_sample_at_a_time": alone,
        "mean_of_one_sample_losses": alone.mean(),
        "grad_avl_map_if_it_flowed": own.grad,
    }


def fnac_case(stored: Stored, tag: str) -> Found:
    found: Found = {}
    terms = ("contrastive", "audio_suppression", "enhancement", "visual_suppression")
    for case, name in zip(("warmup", "l1", "l2", "l3", "full"), (*terms, None), strict=True):
        image, audio = stored.input("fnac.img"), stored.input("fnac.aud")
        term = losses.fnac(image, audio) if name is None else getattr(fnac_terms(image, audio), name)
        (gradient_image, gradient_audio) = torch.autograd.grad(
            term, (image, audio), allow_unused=True, materialize_grads=True
        )
        found |= {case: term, f"grad_img_{case}": gradient_image, f"grad_aud_{case}": gradient_audio}
    scalars = {"ce": "warmup", "fns1_aud_vs_logits": "l1", "tns_aud_vs_foreground": "l2"}
    found |= {key: found[case] for key, case in scalars.items()}
    return found | {
        "fns2_img_vs_logits": found["l3"],
        "loss_full": found["full"],
        "loss_warmup": losses.fnac(image, audio, warmed_up=False),
        "logits": instance_logits(image, audio),
        "aud_attn": adjacency_logits(audio),
        "img_attn": adjacency_logits(image.mean((2, 3))),
        "frg_feature": foreground(image, audio),
        "frg_attn": adjacency_logits(foreground(image, audio)),
        "loc_map": normalized_map(image, audio)[:, 0],
    }


def heatmap_case(stored: Stored, tag: str) -> Found:
    visual = functional.normalize(stored.input("ssltie.img1_raw"), dim=1)
    return {"heatmap": own_similarity(visual, unit_audio(stored.input("ssltie.aud_raw")))}


def ssltie_case(stored: Stored, tag: str) -> Found:
    transform = losses.draw_transform(8, random.Random(stored.facts[tag]["python_random_seed"]))
    side = 14 if transform.scale == 1 else 7
    raw = [stored.input(f"ssltie.{name}") for name in ("img1_raw", f"img2_raw_{side}", "aud_raw")]
    audio = unit_audio(raw[2])
    view = Features(functional.normalize(raw[0], dim=1), audio)
    moved = Features(functional.normalize(raw[1], dim=1), audio)
    loss = losses.ssltie(view, moved, transform)
    loss.backward()
    turned, other = transform(own_similarity(*view)), own_similarity(*moved)
    noise = np.random.default_rng(11).standard_normal((8, 3, 224, 224)).astype(np.float32)
    image = transform(torch.from_numpy(noise))
    return {
        "scale": transform.scale,
        "hflip": transform.flip,
        "angles_deg": transform.degrees,
        "tf_matrices": transform.matrices,
        "transformed_image_stride16": image[..., ::16, ::16],
        "transformed_image.shape": np.array(image.shape),
        "transformed_image.mean": image.double().mean(),
        "transformed_image.std": image.double().std(correction=0),
        "transformed_image.zero_fraction": (image == 0).double().mean(),
        "loss": loss,
        "loss_cl": losses.lvs(*view),
        "loss_cl_ts": losses.lvs(*moved),
        "loss_ts": functional.mse_loss(other, turned),
        "ts_heatmap": turned,
        "heatmap_ts": other,
        "logits": trimap_logits(*view),
        "logits_ts": trimap_logits(*moved),
        "grad_img1_raw": raw[0].grad,
        "grad_img2_raw": raw[1].grad,
        "grad_aud_raw": raw[2].grad,
    }


def alignment_case(stored: Stored, tag: str) -> Found:
    views = {
        prefix: losses.AlignmentView(
            *(stored.input(f"alignment.{prefix}{name}_feature") for name in ("img", "aud", "img_p", "aud_p"))
        )
        for prefix in ("", "aug_", "offhp_")
    }
    arguments = (views[""], views["aug_"], views["offhp_"])
    options = {
        "alignment": {},
        "alignment_intra": {"intra": True},
        "alignment_plain": {"projected": False},
    }[tag]
    if tag == "alignment_plain":
        arguments = arguments[:1]  # type: ignore[assignment]
    logits = alignment_logits(*arguments, **options)
    loss = losses.alignment(*arguments, **options)
    loss.backward()
    return {
        "loss": loss,
        "terms": torch.stack([diagonal_cross_entropy(table) for table in logits]),
        **{f"logits{number:02d}": table for number, table in enumerate(logits)},
        **{
            f"grad_{prefix}{name}_feature": value.grad
            for prefix, view in views.items()
            for name, value in zip(("img", "aud", "img_p", "aud_p"), view, strict=True)
        },
    }


def htf_case(stored: Stored, tag: str) -> Found:
    image, audio = stored.input("htf.img"), stored.input("htf.aud")
    loss = losses.htf(image, audio)
    loss.backward()
    return {
        "loss": loss,
        "logits": trimap_logits(image, audio, negative=0.4),
        "localization": own_similarity(image, audio)[:, 0],
        "grad_img": image.grad,
        "grad_aud": audio.grad,
    }


def htf_attention_case(stored: Stored, tag: str) -> Found:
    module = fill(losses.FlowAttention(32))
    x, flow = stored.input("htf_attn.x"), stored.input("htf_attn.flow")
    out, attention = module(x, flow)
    z = functional.normalize(x + out, dim=1)
    (z * stored.input("htf_attn.w")).sum().backward()
    return {
        "keys": shapes(module),
        "attention": attention,
        "out": out,
        "z": z,
        "grad_x": x.grad,
        "grad_flow": flow.grad,
    }


def simsiam_case(stored: Stored, tag: str) -> Found:
    p1, p2, z1, z2 = (stored.input(f"simsiam.{name}") for name in ("p1", "p2", "z1", "z2"))
    loss = simsiam(p1, p2, z1, z2)
    loss.backward()
    return {
        "loss": loss,
        "loss_original_form": loss,
        "z_gets_gradient": z1.grad is not None or z2.grad is not None,
        "grad_p1": p1.grad,
        "grad_p2": p2.grad,
    }


def sspl_case(stored: Stored, tag: str) -> Found:
    views, patches = [stored.input(f"sspl.vis_view{n}") for n in (1, 2)], stored.input("sspl.aud_patches")
    attended = [attend(view, patches.mean(1)) for view in views]
    features = [each.feature for each in attended]
    head = fill(losses.SSPLHead(32), "head.")
    loss = losses.sspl(head, *features)  # type: ignore[arg-type]
    loss.backward()
    found: Found = {
        "loss": loss,
        "sim_map_view1": attended[0].similarity[:, 0],
        "att_map_view1": attended[0].attention[:, 0],
        "grad_aud_patches": patches.grad,
        "head_keys": shapes(head),
        **{f"head_grad_l2.{name}": norm for name, norm in gradient_norms(head).items()},
    }
    for n, view, feature in zip((1, 2), views, features, strict=True):
        prediction, projection = head(feature)
        found |= {f"p{n}": prediction[:, :64], f"z{n}": projection[:, :64]}
        found |= {f"feat_view{n}": feature, f"grad_vis_view{n}": view.grad}
    return found


def pcm_case(stored: Stored, tag: str) -> Found:
    module = fill(losses.PCM(), "pcm.").train(tag == "pcm_train")
    frame = torch.from_numpy(np.random.default_rng(70).standard_normal((4, 512, 14, 14)).astype(np.float32))
    noise = np.random.default_rng(71).standard_normal((4, 128))
    sound = np.abs(noise) / np.linalg.norm(noise, axis=1, keepdims=True)
    heard = torch.from_numpy(sound.astype(np.float32)).requires_grad_()
    out = module(frame.requires_grad_(), heard)
    weights = np.random.default_rng(72).standard_normal(tuple(out.shape)).astype(np.float32)
    (out * torch.from_numpy(weights)).sum().backward()
    assert frame.grad is not None
    return {
        "keys": shapes(module),
        "out_slice": out[:, ::16, ::3, ::3],
        "out_mean": out.double().mean(),
        "out_std": out.double().std(correction=0),
        "out_l2": out.double().norm(),
        "grad_vis_slice": frame.grad[:, ::16, ::3, ::3],
        "grad_aud": heard.grad,
        **{f"grad_l2.{name}": norm for name, norm in gradient_norms(module).items()},
    }


def l2l_case(stored: Stored, tag: str) -> Found:
    rows, columns = np.mgrid[:20, :20]
    bump = 30 * np.exp(-((rows - 10) ** 2 + (columns - 8) ** 2) / 18)
    noise = np.random.default_rng(80).standard_normal((4, 512, 20, 20)).astype(np.float32)
    frame = noise + bump * stored.arrays["l2l.vis_dir"][:, :, None, None]
    visual = torch.from_numpy(frame.astype(np.float32)).requires_grad_()
    positive, negative = (
        torch.from_numpy((np.random.default_rng(seed).standard_normal((4, 1000)) + 1).astype(np.float32))
        for seed in (81, 82)
    )
    positive.requires_grad_()
    negative.requires_grad_()
    truth = torch.from_numpy(stored.arrays["l2l.worker_gt"]).view(4, 1, 20, 20)
    labeled = torch.from_numpy(stored.arrays["l2l.weights"])[:, 0] > 0
    module = fill(losses.SoundAttention())
    heard: Heard = module(visual, positive)
    total = losses.l2l(heard, positive, negative, truth, labeled)
    total.backward()
    assert visual.grad is not None
    network = {
        key: shape
        for key, shape in stored.facts["l2l"]["keys"].items()
        if key.startswith("vision_embedding_model.")
    }
    return {
        "keys": {**network, **shapes(module)},  # the frame's network is frozen and no part of the loss
        "att_map": heard.attention.flatten(1),
        "z": heard.embedding,
        "unsup_loss": triplet(heard.embedding, positive, negative),
        "sup_loss": attention_likelihood(heard.attention, truth, labeled),
        "total_loss": total,
        "grad_vis_slice": visual.grad[:, ::16, ::2, ::2],
        "grad_vis_l2": visual.grad.double().norm(),
        "grad_pos_audio": positive.grad,
        "grad_neg_audio": negative.grad,
        **{f"grad_l2.{name}": norm for name, norm in gradient_norms(module).items()},
    }


def triplet_case(stored: Stored, tag: str) -> Found:
    embedding = stored.input("l2l_triplet.f_v")
    loss = triplet(embedding, stored.input("l2l_triplet.f_pos"), stored.input("l2l_triplet.f_neg"))
    loss.backward()
    return {"loss": loss, "grad_f_v": embedding.grad}


CASES: dict[str, Case] = {
    "lvs": lambda stored, tag: lvs_case(stored, tag, "lvs"),
    "lvs_negdiag": lambda stored, tag: lvs_case(stored, tag, "lvs_negdiag"),
    "lvs_notrimap": lambda stored, tag: lvs_case(stored, tag, "lvs", negative=0.65),
    "lvs_noneg": lambda stored, tag: lvs_case(stored, tag, "lvs", hard_negatives=False),
    "feats7": lambda _, __: {},  # inputs of ezvsl and slavc
    "ezvsl": ezvsl_case,
    "slavc": slavc_case,
    "slavc_sup": slavc_sup_case,
    "fnac": fnac_case,
    "ssltie": heatmap_case,
    **{f"ssltie_{case}": ssltie_case for case in ("s1_f0", "s1_f1", "shalf_f0", "shalf_f1")},
    "alignment": alignment_case,
    "alignment_intra": alignment_case,
    "alignment_plain": alignment_case,
    "htf": htf_case,
    "htf_attn": htf_attention_case,
    "simsiam": simsiam_case,
    "sspl": sspl_case,
    "pcm_eval": pcm_case,
    "pcm_train": pcm_case,
    "l2l": l2l_case,
    "l2l_triplet": triplet_case,
}


def fault(tag: str, key: str, found: Any, wanted: Any) -> str:
    """Return how a value misses the tolerance, or nothing."""
    if isinstance(wanted, dict | bool):
        return "" if found == wanted else f"{tag}.{key}: {found}, wanted {wanted}"
    if isinstance(found, Tensor):
        found = found.detach().double().numpy()
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        return f"{tag}.{key}: shape {found.shape}, wanted {wanted.shape}"
    error = np.abs(found - wanted)
    if "logits" in key:  # the multiplied diagonal is about -1e3
        bound = 2e-4 + 2e-4 * np.abs(wanted)
    elif "grad" in key:
        bound = (2e-3 if tag.startswith(("sspl", "pcm")) else 5e-4) * np.abs(wanted).max(initial=0)
    else:
        bound = TIGHT.get(f"{tag}.{key}", 2e-4) * np.abs(wanted).max(initial=0)
    return (
        ""
        if (error <= bound).all()
        else f"{tag}.{key}: off by {error.max():.2e}, allowed {np.max(bound):.2e}"
    )


def test_every_tag_has_a_case(stored: Stored) -> None:
    assert stored.tags == set(CASES)
    assert len(CASES) == 25


@pytest.mark.parametrize("tag", sorted(CASES))
def test_everything_stored_is_equal(stored: Stored, tag: str) -> None:
    found, wanted = CASES[tag](stored, tag), stored.wanted(tag)
    inputs = INPUTS.get(tag, set())
    assert inputs <= set(wanted)
    compared = set(wanted) - inputs
    assert compared - set(found) == set()
    assert [line for key in sorted(compared) if (line := fault(tag, key, found[key], wanted[key]))] == []


def test_a_small_error_is_a_fault() -> None:
    wanted = np.linspace(-1, 1, 7)
    assert fault("lvs", "A", wanted + 1e-4, wanted) == ""
    assert "off by 3" in fault("lvs", "A", wanted + 3e-4, wanted)
    assert "off by 6" in fault("lvs", "grad_img_raw", wanted + 6e-4, wanted)
    assert "shape (1, 7)" in fault("lvs", "A", wanted[None], wanted)


def test_the_recipe_fills_as_the_originals_were_filled(shared: Path) -> None:
    checks = json.loads((shared / "golden/models/models.json").read_text())["recipe_check"]
    named = {name: check for name, check in checks.items() if "shape" in check}
    assert named
    for name, check in named.items():
        weights = recipe(name, torch.Size(check["shape"]))
        np.testing.assert_allclose(weights.flatten()[:5].numpy(), check["first5"], rtol=1e-6)
        assert float(weights.double().sum()) == pytest.approx(check["sum"], rel=1e-5)
