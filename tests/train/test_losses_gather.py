"""Features across processes: two real ones give what one gives with the global batch.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from avsl_train import losses
from avsl_train.losses import contrastive, gathered

RANKS, CLIPS, CHANNELS, DIM = 2, 3, 5, 4
"""CLIPS are those of one process."""
NAMES = ("ezvsl", "lvs", "fnac")


class Model(nn.Module):
    """Two linear encoders to unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.visual = nn.Conv2d(CHANNELS, DIM, 1)
        self.audio = nn.Linear(CHANNELS, DIM)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))

    def forward(self, image: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit features."""
        return functional.normalize(self.visual(image), dim=1), functional.normalize(self.audio(sound), dim=1)


def global_batch() -> tuple[Tensor, Tensor]:
    """Return the images and sounds of all processes."""
    draw = torch.Generator().manual_seed(1)
    clips = RANKS * CLIPS
    return torch.randn(clips, CHANNELS, 3, 3, generator=draw), torch.randn(clips, CHANNELS, generator=draw)


def own_part(rank: int) -> tuple[Tensor, Tensor]:
    """Return the images and sounds of one process."""
    image, sound = (part[rank * CLIPS : (rank + 1) * CLIPS] for part in global_batch())
    return image, sound


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradient of every parameter."""
    return {
        name.removeprefix("module."): p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def work(rank: int, folder: Path) -> None:
    """Be one of the processes, and write what it found."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    found: dict[str, Any] = {}
    for name in NAMES:
        for across in (True, False):
            model = DistributedDataParallel(Model())
            visual, audio = model(*own_part(rank))
            loss = contrastive(name)(gathered(visual, across), gathered(audio, across))
            loss.backward()
            found[f"{name} {across}"] = {"loss": loss.detach(), "gradients": gradients(model)}
    features = torch.full((2, 3), float(rank)).requires_grad_()
    everyone = gathered(features)
    (everyone * torch.arange(4.0)[:, None] * (rank + 1)).sum().backward()  # ranks weigh by 1 and 2
    found["order"], found["gradient"] = everyone.detach(), features.grad
    found["strided"] = gathered(torch.arange(6.0).view(2, 3).T + 10 * rank)
    try:
        gathered(torch.zeros(2 + rank, 3))
    except ValueError as error:
        found["uneven"] = str(error)
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(RANKS)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output.decode()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one_with_the_global_batch(found: list[dict[str, Any]], name: str) -> None:
    model = Model()
    loss = contrastive(name)(*model(*global_batch()))
    loss.backward()
    wanted = gradients(model)
    assert len(wanted) == 4
    for rank in found:
        assert rank[f"{name} True"]["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
        for key, gradient in rank[f"{name} True"]["gradients"].items():
            torch.testing.assert_close(gradient, wanted[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_switched_off_each_process_has_its_own_negatives(found: list[dict[str, Any]], name: str) -> None:
    model = Model()
    terms = [contrastive(name)(*model(*own_part(rank))) for rank in range(RANKS)]
    (sum(terms) / RANKS).backward()  # type: ignore[union-attr]
    wanted = gradients(model)
    for rank, term in zip(found, terms, strict=True):
        assert rank[f"{name} False"]["loss"].item() == pytest.approx(term.item(), rel=1e-5)
        for key, gradient in rank[f"{name} False"]["gradients"].items():
            torch.testing.assert_close(gradient, wanted[key], rtol=1e-5, atol=1e-5)
    together = found[0][f"{name} True"]["loss"].item()
    assert abs(together - sum(term.item() for term in terms) / RANKS) > 0.01


def test_features_stand_in_the_order_of_the_ranks(found: list[dict[str, Any]]) -> None:
    for rank in found:
        assert rank["order"][:, 0].tolist() == [0, 0, 1, 1]
        assert rank["strided"][:, 0].tolist() == [0, 1, 2, 10, 11, 12]


def test_each_process_gets_the_sum_of_all_gradients(found: list[dict[str, Any]]) -> None:
    # clip k is weighed by k, by 1 on one rank and by 2 on the other
    assert found[0]["gradient"][:, 0].tolist() == [0, 3]
    assert found[1]["gradient"][:, 0].tolist() == [6, 9]


def test_uneven_batches_are_told_on_every_process(found: list[dict[str, Any]]) -> None:
    for rank in found:
        assert "the ranks hold [2, 3] clips" in rank["uneven"]


def test_one_process_gathers_nothing() -> None:
    features = torch.randn(2, 3)
    assert not distributed.is_initialized()
    assert losses.gathered(features) is features


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
