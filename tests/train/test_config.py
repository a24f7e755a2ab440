"""The training configuration: messages, consistency and digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from avsl_train.config import ExperimentConfig, load_config, parse_config
from avsl_train.errors import TrainInputError
from tests.train.conftest import make_config

XPL: dict[str, Any] = {"method": {"name": "xpl"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**XPL, "optm": {}}, r"^x: optm: unknown key, did you mean 'optim'\? \(known: method, model,"),
        ({**XPL, "optim": {"stpes": 3}}, r"^x: optim\.stpes: unknown key, did you mean 'steps'\?"),
        ({"method": {"name": "xpl", "bta": 0.5}}, r"^x: method\.bta: unknown key, did you mean 'beta'\?"),
        ({"method": {"name": "xlp"}}, r"^x: method\.name: unknown name 'xlp', did you mean 'xpl'\?"),
        ({"method": {"name": "hard-pl", "beta": 0.5}}, r"^x: method\.beta: unknown key.*known: .*lambda_pl"),
        ({"method": {"name": "xpl", "labels": "crss"}}, r"method\.labels: unknown name 'crss'.*'cross'"),
        (
            {"method": {"name": "xpl", "model_b": {"widht": 2}}},
            r"^x: method\.model_b\.widht: unknown key, did you mean 'width'\? \(known: visual,",
        ),
        (
            {"method": {"name": "xpl", "model_b": {"width": -2}}},
            r"^x: method\.model_b\.width: .*greater than 0",
        ),
        ({}, r"^x: method: this key is missing"),
        ({"method": {}}, r"^x: method\.name: this key is missing"),
        ({**XPL, "optim": {"lr": "fast"}}, r"^x: optim\.lr: .*number.*got 'fast'"),
        ({**XPL, "augment": {"flip": 1.5}}, r"^x: augment\.flip: .*less than or equal to 1, got 1\.5"),
        ({**XPL, "model": {"freeze_audio": "x"}}, r"^x: model\.freeze_audio: .*boolean.*audio: .*integer"),
        ({**XPL, "devices": 0}, r"^x: devices: .*greater than 0, got 0; devices: unknown name '0'.*auto"),
        ({**XPL, "optim": {"choose": "best"}}, r"optim: choose is best, which needs validations: set val_ev"),
        ({**XPL, "optim": {"patience": 3}}, r"optim: patience is 3, which needs validations: set val_every"),
        ({**XPL, "data": {"image_size": 300}}, r"data\.image_size 300 is larger than data\.frame_size 256"),
        ({**XPL, "data": {"audio_s": 11}}, r"data\.audio_s 11\.0 is longer than data\.clip_s 10\.0"),
    ],
)
def test_a_wrong_configuration_ends_with_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainInputError, match=message) as caught:
        parse_config(values, "x")
    assert "\n" not in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(TrainInputError, match=r"optim\.stpes.*; .*optim\.lrr"):
        parse_config({**XPL, "optim": {"stpes": 3, "lrr": 1}}, "x")


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_config("xpl").optim.steps = 3  # type: ignore[misc]


def test_the_digest_is_stable_and_counts_every_key() -> None:
    assert parse_config(XPL, "x").digest() == parse_config({**XPL, "optim": {"steps": 20000}}, "x").digest()
    changes: list[dict[str, Any]] = [
        {"optim": {"steps": 20001}},
        {"model": {"width": 2.0}},
        {"data": {"hop": 321}},
        {"augment": {"flip": 0.4}},
        {"precision": "bf16"},
        {"optim": {"gather": False}},
        {"method": {"name": "xpl", "beta": 0.8}},
        {"method": {"name": "xpl", "model_b": {"width": 2.0}}},
        {"method": {"name": "hard-pl"}},
        {"method": {"name": "supervised"}},
    ]
    digests = [parse_config({**XPL, **change}, "x").digest() for change in changes]
    assert len({*digests, parse_config(XPL, "x").digest()}) == len(changes) + 1
    assert all(len(digest) == 16 for digest in digests)


def test_the_digest_leaves_out_how_a_training_runs() -> None:
    """These keys do not make a resume impossible: they change neither clips nor draws nor formulas."""
    base = parse_config(XPL, "x").digest()
    keys = {
        **{"device": "cpu", "devices": 2, "num_nodes": 3, "channels_last": False, "compile": True},
        **{"log_every": 21, "checkpoint_every": 7, "pictures_every": None},
    }
    for key, value in keys.items():
        assert parse_config({**XPL, key: value}, "x").digest() == base
    for key, value in {"workers": 0, "cache": "disk"}.items():
        assert parse_config({**XPL, "data": {key: value}}, "x").digest() == base


@pytest.mark.parametrize(("value", "kind"), [(True, "memory"), (False, "none"), ("disk", "disk")])
def test_a_cache_was_once_a_switch(value: bool | str, kind: str) -> None:
    assert parse_config({**XPL, "data": {"cache": value}}, "x").data.cache == kind


def test_another_cache_is_refused() -> None:
    with pytest.raises(TrainInputError, match=r"data\.cache.*disc.*none.*memory.*disk"):
        parse_config({**XPL, "data": {"cache": "disc"}}, "x")


@pytest.mark.parametrize(("value", "kept"), [(True, True), (False, False), (1, 1), (3, 3)])
def test_a_trunk_is_frozen_always_or_for_some_epochs(value: bool | int, kept: bool | int) -> None:
    config = parse_config({**XPL, "model": {"freeze_visual": value}}, "x")
    assert config.model.freeze_visual is kept or config.model.freeze_visual == kept
    assert type(config.model.freeze_visual) is type(kept)
    assert parse_config(config.model_dump(mode="json"), "x") == config


def test_a_resolved_configuration_resolves_to_itself() -> None:
    config = make_config({"name": "xpl", "model_b": {"width": 0.5}})
    again = parse_config(config.model_dump(mode="json"), "x")
    assert again == config
    assert again.digest() == config.digest()


def test_model_b_is_model_a_with_its_own_keys() -> None:
    config = make_config({"name": "xpl", "model_b": {"width": 0.5}})
    assert config.model_b() == config.model.model_copy(update={"width": 0.5})
    with pytest.raises(TypeError, match="supervised has no second model"):
        make_config("supervised").model_b()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read the configuration .*No such file"),
        (b"a: [", r"is neither JSON nor YAML"),
        (b"\x89PNG\r\n\xff\xfe", r"is neither JSON nor YAML"),
        (b"[1, 2]", r"holds no mapping of keys: did you pass the right file\?"),
        (b'{"method": {"name": "xpl"}, "seed": 3}', r"config\.json: seed: unknown key"),
    ],
)
def test_a_file_that_is_no_configuration_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainInputError, match=message):
        load_config(path)


def test_yaml_and_json_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("method: {name: xpl, beta: 0.5}  # a comment\n")
    assert load_config(tmp_path / "c.yaml") == ExperimentConfig.model_validate(
        {"method": {"name": "xpl", "beta": 0.5}}
    )
