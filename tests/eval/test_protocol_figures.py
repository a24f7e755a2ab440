"""docs/protocols.md holds what benchmarks/protocol_figures.py makes of the published boxes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = repository / "benchmarks" / "protocol_figures.py"
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_page_is_what_the_command_writes(repository: Path, shared: Path, tmp_path: Path) -> None:
    (boxes,) = shared.glob("mirror/*/hche11/Localizing*/*/metadata/vggss.json")
    (metadata,) = shared.glob("mirror/*/stoneMo/EZ-VSL/*/metadata")
    page = tmp_path / "protocols.md"
    shutil.copy(repository / "docs" / "protocols.md", page)
    found = run(
        repository,
        *("--vggss", boxes, "--heard", metadata / "vggss_heard_test.csv"),
        *("--unheard", metadata / "vggss_unheard_test.csv", "--write", page),
    )
    assert found.returncode == 0, found.stderr
    assert page.read_text() == (repository / "docs" / "protocols.md").read_text()


def test_a_page_without_a_marker_is_an_error(repository: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "vggss.json"
    boxes.write_text('[{"file": "aaaaaaaaaaa_000000", "class": "dog", "bbox": [[0.1, 0.1, 0.6, 0.6]]}]')
    page = tmp_path / "page.md"
    page.write_text("<!-- table rules -->\n<!-- end -->\n")
    found = run(repository, "--vggss", boxes, "--write", page)
    assert found.returncode != 0
    assert "the page has 0 places marked <!-- table context -->" in found.stderr
    assert page.read_text() == "<!-- table rules -->\n<!-- end -->\n"


@pytest.mark.parametrize("name", ["rules", "degenerate"])
def test_every_rule_has_its_place(repository: Path, name: str) -> None:
    from avsl_eval import PROTOCOLS

    page = (repository / "docs" / "protocols.md").read_text()
    table = page.split(f"<!-- table {name} -->")[1].split("<!-- end -->")[0]
    lacking = [rule for rule in PROTOCOLS if f"`{rule}`" not in table]
    assert lacking == ([] if name == "rules" else ["acl", "vssl-eval"])
