"""The download's options: what is legal, what wins, what a message says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from avsl_data.__main__ import main
from avsl_data.errors import DataInputError
from avsl_data.fetch import INTERNET_SLEEP_S, FetchPolicy, _options
from avsl_data.policy import OPTIONS, policy_of


def test_no_option_means_the_defaults() -> None:
    assert policy_of({}) == policy_of({}, "{}") == policy_of({"proxy": None}) == FetchPolicy()


def test_every_option_is_a_field_of_the_policy() -> None:
    fields = {field.name for field in dataclasses.fields(FetchPolicy)}
    assert {field for field, _ in OPTIONS.values()} <= fields


def test_the_command_line_wins_over_the_environment() -> None:
    environment = json.dumps({"attempts": 7, "sleep": [1, 2], "wait": True})
    policy = policy_of({"attempts": "2"}, environment)
    assert (policy.attempts, policy.sleep_s, policy.wait) == (2, (1.0, 2.0), True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("attempts", "0", "at least 1"),
        ("attempts", "many", "invalid literal"),
        ("attempts", 1.5, "whole number"),
        ("sleep", [5], "not enough values"),
        ("sleep", [9, 5], "first must not be larger"),
        ("sleep", ["a", 5], "could not convert"),
        ("sleep", [-1, 5], "from 0"),
        ("cooldown", "nan", "from 0"),
        ("timeout", 0, "at least 0.1"),
        ("rate_limit", "5", "from 1000"),
        ("rate_limit", "fast", "could not convert"),
        ("cookies", "/absent", "no such file"),
        ("proxy", "file:///etc/passwd", "SCHEME://HOST:PORT"),
        ("proxy", "localhost", "SCHEME://HOST:PORT"),
        ("js_runtime", "rm", "expected one of deno"),
        ("js_runtime", "deno:/absent", "there is no /absent"),
        ("player_client", ["web; rm"], "expected names"),
        ("source_address", "here", "does not appear to be"),
        ("wait", "yes", "expected true or false"),
    ],
)
def test_nonsense_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(DataInputError, match=f"--{name.replace('_', '-')} .*{message}"):
        policy_of({name: value})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"exec": "rm -rf"}', "unknown download option 'exec'"),
        ('{"atempts": 3}', "did you mean 'attempts'"),
    ],
)
def test_an_environment_that_makes_no_sense(environment: str, message: str) -> None:
    with pytest.raises(DataInputError, match=message):
        policy_of({}, environment)


def test_what_yt_dlp_is_told(tmp_path: Path) -> None:
    given = {"rate_limit": "2M", "proxy": "socks5://localhost:9", "player_client": ["web", "mweb"]}
    options = _options("https://www.youtube.com/watch?v=x", tmp_path, policy_of(given))
    assert options["ratelimit"] == 2_000_000
    assert options["proxy"] == "socks5://localhost:9"
    assert options["extractor_args"] == {"youtube": {"player_client": ["web", "mweb"]}}
    assert options["sleep_interval_requests"] == 0.75
    assert not {"exec", "postprocessors", "download_archive"} & options.keys()


def test_only_the_loopback_interface_is_asked_without_a_pause() -> None:
    assert FetchPolicy().pace("http://127.0.0.1:80/a").interval_s == (0.0, 0.0)
    assert FetchPolicy().pace("https://www.youtube.com/a").interval_s == INTERNET_SLEEP_S
    assert FetchPolicy(sleep_s=(1.0, 1.0)).pace("http://127.0.0.1:80/a").interval_s == (1.0, 1.0)


def test_wrong_options_of_the_command(
    tmp_path: Path, make_catalog: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = make_catalog({"video000000": 1})
    command = ["download", "--catalog", str(catalog), "--bucket", "0", "--clips", str(tmp_path / "clips")]
    command += ["--ledger", str(tmp_path / "ledger" / "0000.parquet")]
    for arguments, message in [
        (["--fetch-missing"], "add --from-folder or --from-tar"),
        (["--video-url", "https://a.org/x.mp4"], "no address with {video_id} in it"),
        (["--video-url", "file:///{video_id}"], "no address with {video_id} in it"),
        (["--from-tar", str(tmp_path / "absent.tar")], "is no file"),
        (["--sleep", "9", "1"], "the first must not be larger"),
    ]:
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setenv("AVSL_DOWNLOAD", '{"sleeep": [1, 2]}')
    assert main([*command, "--site", str(tmp_path)]) == 2
    assert "did you mean 'sleep'?" in capsys.readouterr().err
    assert not (tmp_path / "ledger").exists() or not list((tmp_path / "ledger").glob("*.parquet"))
