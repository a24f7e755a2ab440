"""The command line: bad input ends with one line, status 2 and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from avsl_train.__main__ import main
from tests.train.conftest import World, flac, make_row, scene, write_shard, write_split


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def fit_arguments(world: World, config: Path, out: Path) -> list[str]:
    return [
        *("fit", "--config", str(config), "--shards", str(world.shards), "--split", str(world.split)),
        *("--seed", "0", "--threads", "1", "--out", str(out)),
    ]


def predict_arguments(world: World, checkpoint: Path, out: Path, clips: str = "test") -> list[str]:
    return [
        *("predict", "--checkpoint", str(checkpoint), "--shards", str(world.shards)),
        *("--clips", f"{world.split}:{clips}", "--threads", "1", "--out", str(out)),
    ]


@pytest.fixture(scope="module")
def checkpoint(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with the command line."""
    folder = tmp_path_factory.mktemp("trained")
    config = world.write_config(folder / "config.json", "supervised", optim={"steps": 2})
    assert main(fit_arguments(world, config, folder / "run")) == 0
    return folder / "run/checkpoint.pt"


def refused(arguments: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its message."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("avsl-train: error: ")]
    assert said.err.splitlines() == lines
    assert len(lines) == 1
    assert not out.exists()
    return lines[0].removeprefix("avsl-train: error: ")


def test_a_misspelt_key(world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"method": {"name": "xpl"}, "optim": {"stpes": 5}}))
    message = refused(fit_arguments(world, config, out), out, capsys)
    assert message.startswith(f"{config}: optim.stpes: unknown key, did you mean 'steps'? (known: steps,")


def test_a_missing_configuration(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(fit_arguments(world, tmp_path / "none.json", out), out, capsys)
    assert message == f"cannot read the configuration {tmp_path / 'none.json'}: No such file or directory"


def test_no_shards(world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = world.write_config(tmp_path / "config.json", "supervised")
    (tmp_path / "empty").mkdir()
    arguments = fit_arguments(world, config, out)
    arguments[arguments.index("--shards") + 1] = str(tmp_path / "empty")
    message = refused(arguments, out, capsys)
    assert message == f"no shards (*.parquet) in {tmp_path / 'empty'}: make them with `avsl-data preprocess`"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_clip_at_another_rate(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    import numpy as np

    data = {"cache": False, "workers": workers}
    config = world.write_config(tmp_path / "config.json", "supervised", data=data)
    row = scene(0)
    wrong = make_row(scene(1)["clip_id"], row["frame"]["bytes"], flac(np.zeros(8000, np.int16), 8000), [])
    write_shard(tmp_path / "shards/0.parquet", [row, {**wrong, "boxes": row["boxes"]}])
    split = write_split(tmp_path / "split.parquet", {"labeled": [row["clip_id"], wrong["clip_id"]]})
    arguments = fit_arguments(world, config, out)
    arguments[arguments.index("--shards") + 1] = str(tmp_path / "shards")
    arguments[arguments.index("--split") + 1] = str(split)
    assert main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert errors[0].startswith(f"avsl-train: error: clip {wrong['clip_id']} has 8000 samples per second")


def test_a_missing_file_of_weights(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"visual": "resnet18", "weights": str(tmp_path / "none.pt")}
    config = world.write_config(tmp_path / "config.json", "supervised", model=model)
    message = refused(fit_arguments(world, config, out), out, capsys)
    assert message.startswith(f"model.weights: no file {tmp_path / 'none.pt'}; use `imagenet`")


def test_a_missing_and_a_truncated_checkpoint(
    world: World, checkpoint: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    message = refused(predict_arguments(world, tmp_path / "none.pt", out), out, capsys)
    assert message == f"no checkpoint {tmp_path / 'none.pt'}: train one with `avsl-train fit`"
    cut = tmp_path / "cut.pt"
    cut.write_bytes(checkpoint.read_bytes()[:5000])
    message = refused(predict_arguments(world, cut, out), out, capsys)
    assert message.startswith(f"{cut} cannot be read as a checkpoint")


def test_an_unknown_subset(
    world: World, checkpoint: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    message = refused(predict_arguments(world, checkpoint, out, "tets"), out, capsys)
    assert message == f"{world.split} has no subset 'tets' (it has: labeled, test, unlabeled)"
    arguments = predict_arguments(world, checkpoint, out)
    arguments[arguments.index("--clips") + 1] = "test"
    message = refused(arguments, out, capsys)
    assert message == "--clips is SPLIT.parquet:SUBSET[,SUBSET...], got 'test'"


def test_which_of_one_model(
    world: World, checkpoint: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    message = refused([*predict_arguments(world, checkpoint, out), "--which", "b"], out, capsys)
    assert "needs a method with two models" in message


def test_predictions_of_two_subsets(world: World, checkpoint: Path, tmp_path: Path) -> None:
    import numpy as np

    out = tmp_path / "p.npz"
    assert main(predict_arguments(world, checkpoint, out, "test,labeled")) == 0
    assert np.load(out)["clip_id"].tolist() == [*world.test, *world.labeled]


def test_resolve_writes_every_default_and_refuses_a_misspelt_name(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = {
        "trainsets": {"demo": {"recipe": {"optim": {"steps": 5}}}},
        "experiments": {"xpl": {"method": {"name": "xpl"}}, "bad": {"method": {"name": "xpl", "bta": 1}}},
    }
    arguments = ["resolve", "--study", json.dumps(study), "--trainset", "demo", "--experiment"]
    assert main([*arguments, "xpl", "--out", str(tmp_path / "config.json")]) == 0
    resolved = json.loads((tmp_path / "config.json").read_text())
    assert resolved["optim"]["steps"] == 5
    assert resolved["method"]["beta"] == 0.9
    message = refused([*arguments, "xlp", "--out", str(out)], out, capsys)
    assert "did you mean 'xpl'?" in message
    message = refused([*arguments, "bad", "--out", str(out)], out, capsys)
    assert "method.bta: unknown key, did you mean 'beta'?" in message
    message = refused(["resolve", "--study", "{", *arguments[3:], "xpl", "--out", str(out)], out, capsys)
    assert message.startswith("--study is not JSON")


def test_the_program_itself_answers_at_once_and_without_traceback(
    world: World, tmp_path: Path, out: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"method": {"nme": "xpl"}}')
    code = (
        "import sys; from avsl_train.__main__ import main; status = main(sys.argv[1:]);"
        "print('torch' in sys.modules); sys.exit(status)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *fit_arguments(world, config, out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stdout == "False\n"  # torch takes seconds to import
    assert answer.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_threads_are_at_least_one(
    world: World, out: Path, capsys: pytest.CaptureFixture[str], threads: str
) -> None:
    arguments = predict_arguments(world, Path("c.pt"), out)
    arguments[arguments.index("--threads") + 1] = threads
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"argument --threads: '{threads}' is no whole number of at least 1" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"avsl-train {version('avsl-toolkit')}\n"
