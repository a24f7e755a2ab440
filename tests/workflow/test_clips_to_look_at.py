"""Folders for `datasets` and contact sheets of real clips, by the workflow and by make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Audio, load_dataset
from PIL import Image

from tests.workflow.conftest import Snakemake

IDS = {
    "1aDnyPubxdY_000118",
    "3JYjNHFJfO4_000363",
    "6zlMP_kQ_-w_000030",
    "7tMPoaU2oL4_000000",
    "aEYwqY-Zt_k_000011",
    "nLKEdmVu3FY_000040",
}


@pytest.fixture
def config(shared: Path) -> list[str]:
    """Return the options that name the real clips."""
    clips = shared / "clips/vggss"
    return ["--config", f"sample_clips={clips}", f"sample_annotations={clips / 'annotations.json'}"]


def test_a_folder_for_datasets_and_a_sheet(
    snakemake: Snakemake, config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = ["data/sample/hub/README.md", "data/sample/sheet.jpg"]
    done = snakemake("--cores", "2", *targets, *config)
    assert done.returncode == 0, done.stdout + done.stderr
    again = snakemake("--cores", "2", "--forcerun", "hub", *config, "--", targets[0])
    assert again.returncode == 0, again.stdout + again.stderr
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    loaded = load_dataset(
        str(tmp_path / "data/sample/hub"), "all-test", split="test", cache_dir=str(tmp_path / "cache")
    )
    rows = list(loaded.cast_column("audio", Audio(decode=False)))
    assert {row["clip_id"] for row in rows} == IDS
    assert all(len(row["boxes"]) == 1 and row["audio"]["bytes"].startswith(b"fLaC") for row in rows)
    with Image.open(tmp_path / "data/sample/sheet.jpg") as sheet:
        assert sheet.width > 1000


def test_the_splits_of_a_data_set_become_configs(snakemake: Snakemake) -> None:
    planned = snakemake("-n", "-p", "--cores", "2", "data/vggss/hub/README.md")
    assert planned.returncode == 0, planned.stderr
    assert "--split data/vggss/splits/vggss-semi.parquet" in planned.stdout + planned.stderr
    refused = snakemake("-n", "--cores", "2", "data/vgss/hub/README.md")
    assert refused.returncode == 2
    assert "datasets: unknown name 'vgss', did you mean 'vggss'?" in refused.stderr


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder of links to the project, with the installation that runs this test."""
    command = ["make", "--old-file=.venv/.installed", f"BIN={Path(sys.executable).parent}", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_make_sheet(repository: Path, shared: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "Snakefile", "rules", "config", "schemas", "profiles", "pyproject.toml"):
        (tmp_path / name).symlink_to(repository / name)
    (tmp_path / "constraints.txt").symlink_to(repository / "constraints.txt")
    (tmp_path / "my clips").symlink_to(shared / "clips/vggss")
    asked = make(tmp_path, "sheet")
    assert asked.returncode == 2
    assert "usage: make sheet CLIPS=FOLDER ANNOTATIONS=JSON [OUT=sheet.html]" in asked.stderr
    given = ("sheet", "CLIPS=my clips", "ANNOTATIONS=my clips/annotations.json", "OUT=my sheet.html")
    done = make(tmp_path, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my sheet.html: 6 clips, 0 without a frame" in done.stdout
    page = (tmp_path / "my sheet.html").read_text()
    assert all(clip_id in page for clip_id in IDS)
