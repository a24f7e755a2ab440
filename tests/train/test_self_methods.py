"""The self-supervised methods as trainings: gradients of each term, learning, seeds, state, starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from avsl_train.config import parse_config
from avsl_train.errors import TrainInputError
from avsl_train.method_config_self import STRUCTURES
from avsl_train.methods import METHODS
from avsl_train.methods.alignment import Alignment
from avsl_train.methods.attention10k import Attention10k
from avsl_train.methods.fnac import FNAC
from avsl_train.methods.method import Batch
from avsl_train.methods.self_supervised import SelfSupervised
from avsl_train.methods.slavc import SLAVC
from avsl_train.methods.ssltie import SSLTIE
from avsl_train.methods.sspl import SSPL
from tests.train.conftest import gradient, make_batch, make_clips, make_config, make_method

NAMES = tuple(STRUCTURES)
SMALL: dict[str, dict[str, Any]] = {
    "fnac": {"warmup_epochs": 0, "dropout": 0.2},
    "slavc": {"dropout": 0.2, "momentum": 0.9},
    "sspl": {"pcm": False},
    "alignment": {"k": 2},
}
TERMS = {
    "ezvsl": {"con"},
    "lvs": {"trimap"},
    "slavc": {"con"},
    "fnac": {"con", "audio", "foreground", "visual"},
    "attention10k": {"triplet"},
    "sspl": {"simsiam"},
    "ssltie": {"view", "moved", "equivariance"},
    "alignment": {"local", "projected"},
    "htf": {"trimap"},
}


def small(name: str, seed: int = 0, **settings: Any) -> SelfSupervised[Any]:
    """Return a method on a tiny localizer, with clips to fetch and made-up flow where it needs them."""
    section = {"name": name, "network": "localizer", **SMALL.get(name, {}), **settings}
    return ready(make_method(make_config(section), seed=seed))


def ready(method: Any) -> SelfSupervised[Any]:
    """Give a method what the loop or the user gives it."""
    assert isinstance(method, SelfSupervised)
    clips = make_clips(5, method.config.data, 2)
    method.fetch = lambda index: clips[index]
    method.begin_epoch(0, lambda: iter([clips]))
    method.models.train()
    return method


def unlabeled_batch(method: SelfSupervised[Any]) -> Batch:
    return make_batch(method.config, n_labeled=0)


def train(method: SelfSupervised[Any], steps: int, lr: float = 3e-3) -> list[float]:
    """Train on one batch; return the losses."""
    optimizer = torch.optim.Adam(method.parameter_groups(), lr=lr)
    found = []
    torch.manual_seed(0)  # dropout
    batch = unlabeled_batch(method)
    for step in range(steps):
        loss = torch.stack(list(method.losses(batch, step).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        method.after_step(step)
        found.append(loss.item())
    return found


def digest(state: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_every_term_alone_teaches_both_sides(name: str) -> None:
    method = small(name)
    terms = method.losses(unlabeled_batch(method), 0)
    assert set(terms) == TERMS[name]
    students = list(method.students())
    for term, value in terms.items():
        parts = torch.autograd.grad(value, students, retain_graph=True, allow_unused=True)
        assert sum(part.abs().sum().item() for part in parts if part is not None) > 0, term
        for side in ("visual", "audio"):
            found = gradient(value, encoder(method, side))
            assert found.abs().sum() > 0, (term, side)


def encoder(method: SelfSupervised[Any], side: str) -> torch.nn.Module:
    network = method.models["a"]
    inner: Any = network.online if hasattr(network, "online") else network
    return getattr(inner.localizer, side)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_on_one_batch(name: str) -> None:
    method = small(name, views="published")
    found = train(method, 30)
    assert sum(found[-5:]) < sum(found[:5]), found


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_everything(name: str) -> None:
    states = []
    for seed in (3, 3, 4):
        method = small(name, seed)
        train(method, 2)
        states.append(digest(method.models.state_dict()))
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_in_its_range(name: str) -> None:
    method = small(name)
    method.models.eval()
    clips = make_clips(3, method.config.data)
    with torch.no_grad():
        found = method.localize(method.viewer.plain(clips, method.frontend("a")))
    assert found.shape[:2] == (3, 1)
    assert found.shape[2] == found.shape[3] > 1
    if method.value_range == "cosine":
        assert found.abs().max() <= 1 + 1e-5
    else:
        assert name in {"ezvsl", "slavc", "fnac", "attention10k"}


@pytest.mark.parametrize("name", NAMES)
def test_pictures_show_maps_from_their_lowest_to_their_highest_value(name: str) -> None:
    method = small(name)
    before = digest(method.models.state_dict())
    found = method.pictures()
    assert found["frame"].shape == (4, 3, 32, 32)
    assert found["map"].amin((2, 3)).tolist() == [[0]] * 4
    torch.testing.assert_close(found["map"].amax((2, 3)), torch.ones(4, 1))
    assert digest(method.models.state_dict()) == before
    assert method.models.training


@pytest.mark.parametrize("name", NAMES)
def test_bf16_trains_on_losses_in_single_precision(name: str) -> None:
    config = make_config({"name": name, "network": "localizer", **SMALL.get(name, {})}, precision="bf16")
    method = ready(make_method(config))
    for term in method.losses(unlabeled_batch(method), 0).values():
        assert term.dtype == torch.float32
        assert term.isfinite()
    with torch.no_grad():
        plain = method.viewer.plain(make_clips(3, config.data), method.frontend("a"))
        assert method.localize(plain).dtype == torch.float32


@pytest.mark.parametrize("views", ["published", "weak", "strong"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "htf"])
def test_any_view_can_be_asked_for(name: str, views: str) -> None:
    method = small(name, views=views)
    assert all(term.isfinite() for term in method.losses(unlabeled_batch(method), 0).values())


@pytest.mark.parametrize("name", NAMES)
def test_labelled_clips_take_no_part(name: str) -> None:
    """The loss of a batch with labelled clips is that of its unlabelled ones."""
    losses = []
    for n_labeled in (0, 3):
        method = small(name)
        torch.manual_seed(0)
        terms = method.losses(make_batch(method.config, n_labeled), 0)
        losses.append({term: value.item() for term, value in terms.items()})
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_remembered_survives_a_checkpoint(name: str, tmp_path: Path) -> None:
    method, other = small(name), small(name, seed=5)
    train(method, 2)
    torch.save([method.models.state_dict(), method.state()], tmp_path / "state.pt")
    models, state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.models.load_state_dict(models)
    other.load(state)
    other.seed = method.seed
    batch = unlabeled_batch(method)
    torch.manual_seed(1)
    wanted = {term: value.item() for term, value in method.losses(batch, 7).items()}
    torch.manual_seed(1)
    assert {term: value.item() for term, value in other.losses(batch, 7).items()} == wanted


# ---- what one method alone has


def test_slavc_moves_its_copy_once_per_step_before_the_momentum_features() -> None:
    method = small("slavc", momentum=0.75, dropout=0.0)
    assert isinstance(method, SLAVC)
    network: Any = method.models["a"]
    theirs, ours = network.average.visual_projection2.weight, network.online.visual_projection2.weight
    with torch.no_grad():
        ours.add_(1.0)
    before, now = theirs.clone(), ours.detach().clone()
    for _ in range(2):  # two micro-batches of a step
        method.losses(unlabeled_batch(method), 0)
        torch.testing.assert_close(theirs, 0.75 * before + 0.25 * now)
    method.losses(unlabeled_batch(method), 1)
    torch.testing.assert_close(theirs, 0.5625 * before + 0.4375 * now)


def test_slavc_gives_its_copy_no_gradient() -> None:
    method = small("slavc")
    network: Any = method.models["a"]
    students = {id(parameter) for parameter in method.students()}
    assert not students & {id(parameter) for parameter in network.average.parameters()}
    assert students == {id(parameter) for parameter in network.online.parameters()}
    method.losses(unlabeled_batch(method), 0)["con"].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in network.average.parameters())


def test_fnac_warms_up_for_whole_passes() -> None:
    method = small("fnac", warmup_epochs=2)
    assert isinstance(method, FNAC)
    assert method.n_unlabeled == 5
    assert method.config.optim.batch_unlabeled == 4  # one batch a pass
    batch = unlabeled_batch(method)
    assert [set(method.losses(batch, step)) == {"con"} for step in range(4)] == [True, True, False, False]


def test_fnac_weighs_its_terms() -> None:
    method = small("fnac", lambda_audio=2.0, lambda_foreground=3.0, lambda_visual=5.0)
    torch.manual_seed(0)
    unweighted = method.terms(method.views(make_clips(5, method.config.data, 2), 0), 0)
    method = small("fnac", lambda_audio=2.0, lambda_foreground=3.0, lambda_visual=5.0)
    torch.manual_seed(0)
    weighted = method.losses(unlabeled_batch(method), 0)
    ratios = {name: (weighted[name] / unweighted[name]).item() for name in weighted}
    assert ratios == pytest.approx({"con": 1, "audio": 2, "foreground": 3, "visual": 5})


def test_ssltie_moves_all_clips_alike_but_for_the_angle() -> None:
    method = small("ssltie", max_degrees=10)
    assert isinstance(method, SSLTIE)
    clips = make_clips(200, method.config.data)
    drawn = [method.draw(clips, step) for step in range(40)]
    assert {transform.scale for transform in drawn} == {0.5, 1.0}
    assert {transform.flip for transform in drawn} == {False, True}
    assert drawn[0].degrees.unique().tolist() == list(range(-10, 11))
    some = method.draw(clips[torch.tensor([5, 3])], 0)
    assert (some.scale, some.flip) == (drawn[0].scale, drawn[0].flip)
    assert some.degrees.tolist() == drawn[0].degrees[[5, 3]].tolist()


def test_alignment_counts_its_terms() -> None:
    for settings, pairs, names in (
        ({}, 9, {"local", "projected"}),
        ({"neighbours": False}, 4, {"local", "projected"}),
        ({"neighbours": False, "augmented": False, "projected": False}, 1, {"local"}),
        ({"intra": True}, 9, {"local", "projected", "intra"}),
    ):
        method = small("alignment", **settings)
        batch = unlabeled_batch(method)
        assert len(method.views(batch.clips, 0)) ** 2 == pairs
        assert set(method.losses(batch, 0)) == names


def test_alignment_finds_other_clips_that_are_alike() -> None:
    method = small("alignment", k=2)
    assert isinstance(method, Alignment)
    angles = torch.tensor([0.0, 0.1, 0.2, 2.0, 2.1])
    method.bank["image"] = torch.stack([angles.cos(), angles.sin()], dim=1)
    index = torch.arange(5)
    found = [method.nearest(index, "image", method.draws("n", step), index).tolist() for step in range(30)]
    seen = [{row[i] for row in found} for i in range(5)]
    assert seen == [{1, 2}, {0, 2}, {0, 1}, {2, 4}, {2, 3}]


def test_alignment_searches_anew_every_few_passes() -> None:
    method = small("alignment", neighbours_every=2)
    assert isinstance(method, Alignment)
    clips = make_clips(5, method.config.data, 9)
    swept: list[int] = []

    def sweep(step: int) -> Iterator[Any]:
        swept.append(step)
        yield clips

    for step in range(5):
        method.begin_epoch(step, lambda step=step: sweep(step))  # type: ignore[misc]
    assert swept == [0, 2, 4]
    assert method.bank["image"].shape == (5, method.config.model.dim)


def test_alignment_says_what_its_neighbours_need() -> None:
    method = small("alignment")
    method.fetch = None
    with pytest.raises(RuntimeError, match="the loop sets"):
        method.losses(unlabeled_batch(method), 0)


def test_attention10k_learns_from_labels_too() -> None:
    method = small("attention10k", lambda_sup=2.0)
    assert isinstance(method, Attention10k)
    terms = method.losses(make_batch(method.config), 0)
    assert set(terms) == {"triplet", "sup"}
    assert gradient(terms["sup"], encoder(method, "visual")).abs().sum() > 0
    assert gradient(terms["sup"], encoder(method, "audio")).abs().sum() > 0


def test_attention10k_averages_labels_over_labelled_clips_or_over_all() -> None:
    attention = torch.full((3, 1, 2, 2), 0.25)
    truth = torch.zeros(3, 1, 2, 2)
    truth[0, 0, 0, 0] = truth[1, 0] = 1
    labeled = torch.tensor([True, True, False])
    one = torch.tensor(4.0).log()
    own = small("attention10k", lambda_sup=1.0)
    both = small("attention10k", lambda_sup=1.0, sup_mean="batch")
    assert isinstance(own, Attention10k)
    assert isinstance(both, Attention10k)
    torch.testing.assert_close(own.likelihood(attention, truth, labeled), (one + 4 * one) / 2)
    torch.testing.assert_close(both.likelihood(attention, truth, labeled), (one + 4 * one) / 3)
    assert own.likelihood(attention, truth, torch.zeros(3, dtype=torch.bool)) == 0


def test_attention10k_never_hears_its_own_sound_as_the_other() -> None:
    method = small("attention10k")
    assert isinstance(method, Attention10k)
    clips = make_clips(4, method.config.data)
    chosen = [method.views(clips, step)[0].other.tolist() for step in range(60)]  # type: ignore[attr-defined]
    seen = [{row[i] for row in chosen} for i in range(4)]
    assert seen == [{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}]
    view = method.views(clips, 0)[0]
    heard, sound = method.attend(view)
    own = heard._replace(embedding=sound)
    assert 0 <= method.triplet(own, sound, view) < 0.25  # nearer to its own sound than to the other
    turned = heard._replace(embedding=sound[view.other])  # type: ignore[attr-defined]
    assert 0.25 < method.triplet(turned, sound, view) <= 1


def test_sspl_gives_its_head_a_rate_and_its_exchange_no_decay() -> None:
    config = make_config({"name": "sspl", "network": "localizer"}, data={"image_size": 56, "frame_size": 56})
    method = ready(make_method(config))
    assert isinstance(method, SSPL)
    rest, head, rates = method.parameter_groups()
    network: Any = method.models["a"]
    assert head["lr"] == pytest.approx(2.5 * config.optim.lr)
    assert {id(p) for p in head["params"]} == {id(p) for p in network.ssl_head.parameters()}
    assert rates["weight_decay"] == 0
    assert len(rates["params"]) == 6
    every = [id(p) for group in (rest, head, rates) for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in method.students())
    without = small("sspl")
    assert [group.get("lr") for group in without.parameter_groups()] == [None, pytest.approx(0.02)]
    terms = method.losses(unlabeled_batch(method), 0)
    assert gradient(terms["simsiam"], network.pcm).abs().sum() > 0


def test_sspl_says_for_which_maps_its_coding_module_is() -> None:
    method = small("sspl", pcm=True)
    with pytest.raises(TrainInputError, match=r"14x14 features, these have side 8: set method.pcm"):
        method.losses(unlabeled_batch(method), 0)


def test_htf_says_what_it_lacks() -> None:
    """Flow is loaded without being asked for; not to load it, or clips without it, are one clear error."""
    section = {"name": "htf", "network": "localizer"}
    assert make_config(section).data.flow
    assert not make_config({**section, "name": "ezvsl"}).data.flow
    with pytest.raises(TrainInputError, match=r"htf sees the optical flow of every clip: data\.flow must be"):
        make_config(section, data={"flow": False})
    batch = make_batch(make_config("supervised"), n_labeled=0)
    with pytest.raises(TrainInputError, match=r"no optical flow: set data\.flow to true.* preprocess --flow"):
        make_method(make_config(section)).losses(batch, 0)


# ---- published networks


@pytest.mark.parametrize("name", NAMES)
def test_a_published_network_is_checked_against_the_model(name: str) -> None:
    with pytest.raises(
        TrainInputError, match=rf"published network of {name} has model.visual \w+ and not tiny"
    ):
        parse_config({"method": {"name": name}, "model": {"visual": "tiny"}}, "a test")
    if not STRUCTURES[name]["freeze_visual"]:
        with pytest.raises(TrainInputError, match=r"model.freeze_visual False and not True"):
            parse_config({"method": {"name": name}, "model": {"freeze_visual": True}}, "a test")
    config = parse_config({"method": {"name": name}}, "a test")
    assert parse_config(config.model_dump(mode="json"), "a test") == config


@pytest.mark.parametrize("name", ["sspl", "attention10k", "htf"])
def test_frozen_parts_of_published_networks_are_no_students(name: str) -> None:
    config = parse_config({"method": {"name": name}, "device": "cpu"}, "a test")
    method = make_method(config)
    assert isinstance(method, SelfSupervised)
    students = {id(parameter) for parameter in method.students()}
    network: Any = method.models["a"]
    if name == "sspl":
        frozen = [network.frame, network.sound.features, network.sound.embeddings]
    elif name == "attention10k":
        frozen = [network.vision_embedding_model, method.models["sound"]]
    else:
        frozen = [network.imgnet]
    held = {id(parameter) for part in frozen for parameter in part.parameters()}
    assert held
    assert not students & held
    assert students | held == {id(parameter) for parameter in method.models.parameters()}
    method.models.train()
    norms = [
        part.training
        for model in frozen
        for part in model.modules()
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)
    ]
    # of these networks HTF's alone goes on gathering statistics, as published
    assert set(norms) == {"sspl": set(), "attention10k": {False}, "htf": {True}}[name]


@pytest.mark.parametrize("name", ["lvs", "ssltie", "alignment", "ezvsl", "slavc", "fnac", "htf"])
def test_the_trunk_of_the_frame_alone_starts_from_the_weights_that_are_named(
    name: str, tmp_path: Path
) -> None:
    known = resnet18().state_dict()
    torch.save(known, tmp_path / "resnet18.pth")
    model = {"weights": str(tmp_path / "resnet18.pth")}
    config = parse_config({"method": {"name": name}, "model": model, "device": "cpu"}, "a test")
    found = make_method(config).models["a"].state_dict()
    for key, value in known.items():
        if not key.startswith("fc."):
            torch.testing.assert_close(found[f"imgnet.{key}"], value)
    assert not torch.equal(found["audnet.layer1.0.conv1.weight"], known["layer1.0.conv1.weight"])
    if name == "slavc":
        torch.testing.assert_close(found["momentum_imgnet.conv1.weight"], known["conv1.weight"])
    if name == "htf":
        torch.testing.assert_close(found["flownet.layer1.0.conv1.weight"], known["layer1.0.conv1.weight"])


def test_a_training_starts_from_a_published_checkpoint(tmp_path: Path) -> None:
    config = parse_config({"method": {"name": "ezvsl"}, "device": "cpu"}, "a test")
    known = make_method(config, seed=9).models["a"].state_dict()
    torch.save({"model": {f"module.{name}": value for name, value in known.items()}}, tmp_path / "best.pth")
    started = {"name": "ezvsl", "start": str(tmp_path / "best.pth")}
    method = make_method(parse_config({"method": started, "device": "cpu"}, "a test"))
    assert digest(method.models["a"].state_dict()) == digest(known)
    ours = {**started, "network": "localizer"}
    localizer: Any = make_method(parse_config({"method": ours, "device": "cpu"}, "a test")).models["a"]
    torch.testing.assert_close(localizer.localizer.visual_projection.weight, known["img_proj.weight"])
    with pytest.raises(TrainInputError, match=r"method.start: .*best.pth is no checkpoint of slavc: \d+ of"):
        make_method(parse_config({"method": {**started, "name": "slavc"}, "device": "cpu"}, "a test"))
    with pytest.raises(TrainInputError, match="start needs network: published"):
        parse_config({"method": {**ours, "name": "slavc"}}, "a test")


def test_sspl_starts_from_a_folder_of_its_parts(tmp_path: Path) -> None:
    section = {"name": "sspl", "pcm": False}
    known: Any = make_method(parse_config({"method": section, "device": "cpu"}, "a test"), seed=4).models["a"]
    for part in ("frame", "sound"):
        torch.save(getattr(known, part).state_dict(), tmp_path / f"{part}_best.pth")
    config = parse_config({"method": {**section, "start": str(tmp_path)}, "device": "cpu"}, "a test")
    with pytest.raises(
        TrainInputError, match=r"no file .*ssl_head_best.pth: the checkpoints of SSPL are a folder"
    ):
        make_method(config)
    torch.save(
        {f"module.{name}": value for name, value in known.ssl_head.state_dict().items()},
        tmp_path / "ssl_head_best.pth",
    )
    assert digest(make_method(config).models["a"].state_dict()) == digest(known.state_dict())


def test_every_self_supervised_method_is_known_by_its_name() -> None:
    assert {name for name, method in METHODS.items() if issubclass(method, SelfSupervised)} == set(NAMES)
