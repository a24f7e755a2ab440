"""Exported models: the same maps, the card, tampering, and pushing to a hub on the loopback interface."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import yaml

import avsl_eval
import avsl_train
from avsl_train.__main__ import main
from avsl_train.errors import TrainInputError
from avsl_train.fit import fit, read_training_clips
from avsl_train.method_config_self import STRUCTURES
from avsl_train.methods import HTF, METHODS
from avsl_train.methods.method import Method
from avsl_train.predict import write_predictions
from avsl_train.stored import StoredModel
from avsl_train.trained import values_of
from tests.train.conftest import World, make_config, make_method

FRAME = np.random.default_rng(1).integers(0, 256, (44, 60, 3), np.uint8)
SOUND = np.random.default_rng(2).integers(-9000, 9000, 16000).astype(np.int16)
FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def checkpoint(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("xpl")
    config = make_config("xpl", optim={"steps": 2})
    fit(config, read_training_clips(config, [world.shards], world.split), 3, out, threads=1)
    return out / "checkpoint.pt"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "exported")]) == 0
    return tmp_path / "exported"


def localized(model: avsl_train.Model) -> np.ndarray[Any, Any]:
    return model.localize(FRAME, SOUND, sample_rate=16000, size="map")


def front_matter(folder: Path) -> dict[str, Any]:
    """Return the card's head, as the hub reads it."""
    head = (folder / "README.md").read_text().split("---\n")[1]
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_the_folder_gives_the_maps_of_the_checkpoint_bit_by_bit(checkpoint: Path, folder: Path) -> None:
    wanted = localized(avsl_train.load_model(checkpoint))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    np.testing.assert_array_equal(localized(avsl_train.load_model(folder)), wanted)
    for which in ("a", "b"):
        one = localized(avsl_train.load_model(folder, which=which))
        np.testing.assert_array_equal(one, localized(avsl_train.load_model(checkpoint, which=which)))
        assert np.abs(one - wanted).max() > 1e-4
    about = avsl_train.load_model(folder).about
    assert about == avsl_train.load_model(checkpoint).about


def test_predictions_of_folder_and_checkpoint_are_the_same_file(
    world: World, checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    for place, out in ((checkpoint, "a.npz"), (folder, "b.npz")):
        write_predictions(place, [world.shards], world.test, tmp_path / out, None)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_exported_model_can_be_exported_again(folder: Path, tmp_path: Path) -> None:
    assert main(["export", "--checkpoint", str(folder), "--out", str(tmp_path / "again")]) == 0
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert main(["export", "--checkpoint", str(folder), "--out", str(folder), "--licence", "mit"]) == 0
    assert front_matter(folder)["license"] == "mit"


def test_the_weights_hold_no_optimiser(checkpoint: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    trained = torch.load(checkpoint, weights_only=True)["models"]
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == trained.keys()
    assert all(torch.equal(stored[name], value) for name, value in trained.items())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_exported(name: str, tmp_path: Path) -> None:
    method = a_method(name)
    model = StoredModel(
        name,
        dict(method.models.state_dict()),
        {
            "config": method.config.model_dump(mode="json"),
            "config_digest": method.config.digest(),
            "seed": 0,
            "step": 5,
        },
        "0" * 64,
    )
    from avsl_train.hub_model import read_folder, write_folder
    from avsl_train.load import network_of
    from avsl_train.model_card import CardFacts, write_card

    use = avsl_train.Model(network_of(model, "memory"))
    write_folder(model, use, write_card(model, use, CardFacts("x", "x")), tmp_path / "out")
    again = avsl_train.Model(network_of(read_folder(tmp_path / "out"), "folder"))
    assert again.values == use.values == values_of(method)
    if isinstance(method, HTF):
        with pytest.raises(TrainInputError, match="htf needs the optical flow of a clip"):
            localized(use)
        return
    found = localized(again)
    np.testing.assert_array_equal(found, localized(use))
    assert use.values.low - 1e-5 <= found.min() < found.max() <= use.values.high + 1e-5


def a_method(name: str) -> Method:
    """Return a fresh method; published ones on a tiny localizer."""
    settings: dict[str, Any] = {"name": name}
    if name in STRUCTURES:
        settings["network"] = "localizer"
    if name == "sspl":
        settings["pcm"] = False
    return make_method(make_config(settings))


def test_the_card(world: World, checkpoint: Path, tmp_path: Path) -> None:
    write_predictions(checkpoint, [world.shards], world.test, tmp_path / "p.npz", None)
    truth = {clip_id: [[0.1, 0.1, 0.8, 0.8]] for clip_id in world.test}
    scores = avsl_eval.evaluate_all(tmp_path / "p.npz", truth, ["fixed", "ezvsl"])
    avsl_eval.save_scores(scores, tmp_path / "scores.json")
    options = ["--scores", str(tmp_path / "scores.json"), "--name", "A: name", "--trained-on", "demo, 3 %"]
    out = tmp_path / "out"
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(out), *options]) == 0
    head, text = front_matter(out), (out / "README.md").read_text()
    assert head["library_name"] == "avsl-toolkit"
    assert (head["license"], head["license_name"]) == ("other", "not-chosen")
    assert "xpl" in head["tags"]
    assert head["model-index"][0]["name"] == "A: name"
    stated = {
        (metric["type"], metric["name"].rpartition(" ")[2]): metric["value"]
        for result in head["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    for protocol in ("fixed", "ezvsl"):
        assert stated["ciou@0.5", protocol] == pytest.approx(
            100 * scores[protocol].metrics["ciou@0.5"], abs=0.01
        )
        assert stated["auc", protocol] == pytest.approx(100 * scores[protocol].metrics["auc"], abs=0.01)
    assert "| all | `fixed` | 3 |" in text
    assert "Training data: demo, 3 %" in text
    assert "4 clips with boxes and 10 without; 2 steps" in text  # of run.json
    assert "8 x 8 values" in text
    context = scores["ezvsl"].context
    disc, ceiling = (100 * context[name]["ciou@0.5"] for name in ("center_prior", "ceiling"))
    assert f"| {ceiling:.1f} | {disc:.1f} |" in text
    assert "**Not chosen yet.**" in text
    assert f'load_model("{out}")' in text
    from huggingface_hub import ModelCard

    assert ModelCard.load(out / "README.md").data.eval_results is not None  # the hub's own reader


def test_scores_of_another_checkpoint_are_refused(
    world: World, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(checkpoint, [world.shards], world.test, tmp_path / "p.npz", None)
    truth = {clip_id: [[0.1, 0.1, 0.8, 0.8]] for clip_id in world.test}
    scores = avsl_eval.evaluate_all(tmp_path / "p.npz", truth, ["fixed"])
    avsl_eval.save_scores(scores, tmp_path / "scores.json")
    text = (tmp_path / "scores.json").read_text()
    digest = json.loads(text)["predictions_meta"]["checkpoint_sha256"]
    (tmp_path / "scores.json").write_text(text.replace(digest, "f" * 64))
    out = tmp_path / "out"
    arguments = ["export", "--checkpoint", str(checkpoint), "--out", str(out), "--scores"]
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / "scores.json")]) == 2
    said = capsys.readouterr().err
    assert "has the scores of another checkpoint (SHA-256 ffffffffffff; this model's is" in said
    assert main([*arguments, str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    assert not out.exists()


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_changed_or_incomplete_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(TrainInputError, match=message):
            avsl_train.load_model(copy)
        shutil.rmtree(copy)
        shutil.copytree(folder, copy)

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    refused(r"model\.safetensors is not the file that config\.json names .*: it is cut short or was changed")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused("it is cut short or was changed; export or download it again")
    weights.unlink()
    refused(r"copy lacks model\.safetensors: download it again, or export")
    (copy / "config.json").unlink()
    refused(r"copy is no exported model, it has no config\.json")
    change(copy / "config.json", '"seed": 3', '"seed": 4')
    refused(r"config\.json was changed after it was written")
    change(copy / "config.json", "avsl-model/1", "avsl-model/7")
    refused(r"config\.json has schema 'avsl-model/7', this program reads 'avsl-model/1'")
    (copy / "config.json").write_text('{"architectures": ["BertModel"]}')
    refused("has schema None, .* another library's model")
    (copy / "config.json").write_text("[1, 2")
    refused(r"config\.json cannot be read as JSON")
    (copy / "README.md").unlink()  # nothing depends on the card
    np.testing.assert_array_equal(
        localized(avsl_train.load_model(copy)), localized(avsl_train.load_model(folder))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "none.pt", "--out", "o"], "no checkpoint none.pt: train one with"),
        (["--checkpoint", "CHECKPOINT", "--out", "full"], "full holds mine.txt, which no model's folder has"),
        (["--checkpoint", "CHECKPOINT", "--out", "full/mine.txt"], "full/mine.txt is a file: --out names"),
        (
            ["--checkpoint", "CHECKPOINT", "--out", "o", "--public"],
            "--public is of the repository that --push",
        ),
    ],
)
def test_wrong_arguments_are_told(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert main(["export", *[str(checkpoint) if a == "CHECKPOINT" else a for a in arguments]]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"avsl-train: error: {message}")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


class Hub:
    """A hub of one model, in memory: the endpoints that the real client uses to push and to download."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.refuse = 0
        self.address = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Return status, content (bytes, or JSON) and headers of a request."""
        path = unquote(path.partition("?")[0])
        if self.refuse:
            return self.refuse, {"error": "You have no rights here"}, {}
        if method == "PUT":
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/put/")
            self.objects[path.removeprefix("/put/")] = body
            return 200, {}, {}
        if path.startswith("/me/mine/resolve/"):
            return self._resolve(path.rpartition("/")[2])
        known = {"id": "me/mine", "sha": "1" * 40, "siblings": [{"rfilename": name} for name in self.files]}
        routes: dict[str, Any] = {
            "/api/repos/create": lambda: self._create(body),
            "/api/validate-yaml": lambda: {"errors": [], "warnings": []},
            "/api/models/me/mine": lambda: known,
            "/api/models/me/mine/revision/main": lambda: known,
            f"/api/models/me/mine/revision/{'1' * 40}": lambda: known,
            "/api/models/me/mine/preupload/main": lambda: self._preupload(body),
            "/me/mine.git/info/lfs/objects/batch": lambda: self._batch(body),
            "/api/models/me/mine/commit/main": lambda: self._commit(body),
            "/api/models/me/mine/tree/main": self._tree,
            f"/api/models/me/mine/tree/{'1' * 40}": self._tree,
        }
        if path not in routes:
            return 404, {"error": f"no {path} here"}, {"X-Error-Code": "RepoNotFound"}
        return 200, routes[path](), {}

    def _create(self, body: bytes) -> Any:
        self.created.append(json.loads(body))
        return {"url": f"{self.address}/me/mine"}

    def _preupload(self, body: bytes) -> Any:
        names = [file["path"] for file in json.loads(body)["files"]]
        mode = {True: "lfs", False: "regular"}
        modes = [mode[name.endswith(".safetensors")] for name in names]
        return {
            "files": [
                {"path": name, "uploadMode": mode, "shouldIgnore": False}
                for name, mode in zip(names, modes, strict=True)
            ]
        }

    def _batch(self, body: bytes) -> Any:
        wanted = [(item["oid"], item["size"]) for item in json.loads(body)["objects"]]
        where = {oid: {"upload": {"href": f"{self.address}/put/{oid}"}} for oid, _ in wanted}
        objects = [{"oid": oid, "size": size, "actions": where[oid]} for oid, size in wanted]
        return {"transfer": "basic", "objects": objects}

    def _tree(self) -> Any:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in self.files.items()
        ]

    def _commit(self, body: bytes) -> Any:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]
        address = f"{self.address}/me/mine/commit/1"
        return {"commitUrl": address, "commitOid": "1" * 40, "pullRequestUrl": None, "success": True}

    def _resolve(self, name: str) -> tuple[int, Any, dict[str, str]]:
        if name not in self.files:
            return 404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"}
        data = self.files[name]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": "1" * 40}
        return 200, data, headers


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            status, content, headers = state.answer(self.command, self.path, self._body())
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            for key, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815 - the base class names them so

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def run(hub: Hub, folder: Path, *command: str, token: str = "hf_secret") -> Any:
    """Run Python in a process of its own: the hub's client reads its address when it is imported."""
    changes = {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": token,
        "OMP_NUM_THREADS": "1",
    }
    environment = {**os.environ, **changes}
    environment.pop("HF_HUB_OFFLINE", None)
    if not token:
        del environment["HF_TOKEN"]
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def export(checkpoint: Path) -> list[str]:
    return [
        "-m",
        "avsl_train",
        "export",
        "--checkpoint",
        str(checkpoint),
        "--out",
        "out",
        "--push",
        "me/mine",
    ]


LOCALIZE = """
import sys, numpy as np, avsl_train
model = avsl_train.load_model(sys.argv[1])
given = np.load("given.npz")
np.save("map.npy", model.localize(given["frame"], given["sound"], sample_rate=16000, size="map"))
"""


def test_a_pushed_model_is_loaded_by_its_name(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    done = run(hub, tmp_path, *export(checkpoint))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.address}/me/mine/commit/1"
    assert hub.created[0]["name"] == "mine"
    assert hub.created[0].get("type", "model") == "model"
    assert hub.created[0]["visibility"] == "private"
    assert sorted(hub.files) == FILES
    for name, data in hub.files.items():
        assert (tmp_path / "out" / name).read_bytes() == data
    assert 'load_model("me/mine")' in hub.files["README.md"].decode()
    np.savez(tmp_path / "given.npz", frame=FRAME, sound=SOUND)
    for place in ("me/mine", f"me/mine@{'1' * 40}"):
        done = run(hub, tmp_path, "-c", LOCALIZE, place)
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(
            np.load(tmp_path / "map.npy"), localized(avsl_train.load_model(checkpoint))
        )


def test_nobody_is_logged_in(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    done = run(hub, tmp_path, *export(checkpoint), token="")
    assert done.returncode == 2
    assert "needs a token with write access: run `hf auth login` or set $HF_TOKEN" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not hub.created


def test_the_hub_refuses(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    hub.refuse = 403
    done = run(hub, tmp_path, *export(checkpoint))
    assert done.returncode == 2
    assert "the hub did not take out (" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


def test_a_model_that_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    command = ["-m", "avsl_train", "localize", "v.mp4", "--checkpoint", "me/other", "--out", "o.mp4"]
    (tmp_path / "v.mp4").write_bytes(b"")
    done = run(hub, tmp_path, *command)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "avsl-train: error: no file or folder me/other here, and the hub gives no such"
    )
    assert done.stderr.count("\n") == 1


def test_a_hub_that_cannot_be_reached(hub: Hub, tmp_path: Path) -> None:
    hub.address = "http://127.0.0.1:9"
    done = run(
        hub, tmp_path, "-c", "import sys; from avsl_train.hub_model import download; download('me/mine')"
    )
    assert "no file or folder me/mine here, and the hub cannot be reached (" in done.stderr
