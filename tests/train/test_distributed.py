"""What processes tell each other; run as a script, this file is one of the processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avsl_train.distributed import gather_objects, gather_rows, rank, total, world_size
from tests.train.processes import found_by, work

RANKS = 3


def find(number: int) -> dict[str, Any]:
    """Return what one process sees; it holds as many rows as its rank says."""
    rows = torch.full((number, 2), float(number))
    held = torch.tensor([1.0, float(number)])
    return {
        "rank": rank(),
        "world_size": world_size(),
        "sum": total(held),
        "held": held,
        "count": total(torch.tensor([True, number > 0])),
        "half": total(torch.tensor([0.5]).half()),
        "turned": total(torch.arange(6.0).view(2, 3).T),
        "free": total(torch.tensor(2.0, requires_grad=True)).requires_grad,
        "rows": gather_rows(rows),
        "places": gather_rows(torch.arange(2) + 10 * number),
        "truth": gather_rows(torch.tensor([number == 1])),
        "maps": gather_rows(torch.full((1, 1, 2, 2), number).half()),
        "objects": gather_objects(f"rank {number}"),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return found_by(__file__, tmp_path_factory.mktemp("ranks"), RANKS)


def test_each_process_knows_its_number(found: list[dict[str, Any]]) -> None:
    assert [(part["rank"], part["world_size"]) for part in found] == [(0, 3), (1, 3), (2, 3)]


def test_the_sum_is_the_same_everywhere_and_leaves_its_argument_alone(found: list[dict[str, Any]]) -> None:
    for number, part in enumerate(found):
        assert part["sum"].tolist() == [3, 0 + 1 + 2]
        assert part["held"].tolist() == [1, number]
        assert part["half"].tolist() == [1.5]
        assert part["half"].dtype == torch.float16
        assert part["turned"].tolist() == [[0, 9], [3, 12], [6, 15]]
        assert not part["free"]


def test_truth_values_are_counted(found: list[dict[str, Any]]) -> None:
    assert all(part["count"].tolist() == [3, 2] for part in found)


def test_rows_stand_in_the_order_of_the_ranks_however_many_each_has(found: list[dict[str, Any]]) -> None:
    for part in found:
        assert part["rows"].tolist() == [[1, 1], [2, 2], [2, 2]]
        assert part["places"].tolist() == [0, 1, 10, 11, 20, 21]
        assert part["truth"].tolist() == [False, True, False]
        assert part["maps"].shape == (3, 1, 2, 2)
        assert part["maps"][:, 0, 0, 0].tolist() == [0, 1, 2]
        assert part["objects"] == ["rank 0", "rank 1", "rank 2"]


def test_one_process_gets_back_what_it_gives() -> None:
    assert (rank(), world_size()) == (0, 1)
    rows = torch.randn(3, 2)
    assert torch.equal(gather_rows(rows), rows)
    assert torch.equal(total(rows), rows)
    assert total(torch.tensor([True, False])).tolist() == [1, 0]
    assert not total(rows.requires_grad_()).requires_grad
    assert gather_objects("a") == ["a"]


if __name__ == "__main__":
    work(find)
