# SPDX-License-Identifier: Apache-2.0
"""Publish on a local Hub and load from it: one commit, resumed transfers, private models, and one line per error."""

import errno
import re
import shutil

import pytest
from hub import Break, Repository, files_of
from huggingface_hub import constants
from typer.testing import CliRunner

from speechbrain_ee.cli.app import app
from speechbrain_ee.hub.bundle import make_bundle
from speechbrain_ee.hub.card import CardFacts
from speechbrain_ee.hub.push import push
from speechbrain_ee.hub_errors import HubError
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import ModelError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:httpx2")

OF_NEW_CLIENTS = pytest.mark.skipif(
    not hasattr(constants, "HF_HUB_DISABLE_XET"), reason="old versions of huggingface_hub start again"
)


def uploads(hub):
    return [one for one in hub.asked if one.startswith("PUT")]


def downloads(hub):
    return [one for one in hub.asked if re.match("GET .*/resolve/", one)]


def load_error(name, **options):
    with pytest.raises(ModelError) as raised:
        EarlyExitASR.from_hparams(name, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def push_error(*arguments, **options):
    with pytest.raises(HubError) as raised:
        push(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_pushed_is_what_is_there(hub, bundle):
    pushed = push(bundle, "user/tiny")
    created, head = hub.repositories["user/tiny"].commits
    assert not created and head == files_of(bundle)
    assert pushed.url.endswith(hub.repositories["user/tiny"].sha(1)) and pushed.removed == []
    loaded = EarlyExitASR.from_hparams("user/tiny")
    assert loaded.fingerprint == EarlyExitASR.from_hparams(bundle).fingerprint
    assert loaded.policy.threshold == 0.2


def test_a_second_push_of_the_same_bundle_sends_no_file_and_makes_no_commit(hub, bundle):
    push(bundle, "user/tiny")
    hub.asked.clear()
    push(bundle, "user/tiny")
    assert uploads(hub) == [] and len(hub.repositories["user/tiny"].commits) == 2


def test_an_upload_that_breaks_is_resumed_by_the_same_call(hub, bundle):
    weights = (bundle / "model.safetensors").read_bytes()
    hub.breaks.append(Break("PUT /lfs/", after=len(weights) // 2, times=1000))
    assert push_error(bundle, "user/tiny").endswith("check the connection and run the same command again")
    assert hub.repositories["user/tiny"].commits == [{}]
    hub.breaks[0].times = 2  # the client tries again by itself
    push(bundle, "user/tiny")
    assert hub.repositories["user/tiny"].commits[-1] == files_of(bundle)


def test_only_what_did_not_arrive_is_sent_again(hub, bundle):
    push(bundle, "user/tiny")
    lost = next(oid for oid, data in hub.objects.items() if data == (bundle / "model.ckpt").read_bytes())
    del hub.objects[lost]
    hub.repositories["user/tiny"] = Repository()
    hub.asked.clear()
    push(bundle, "user/tiny")
    assert uploads(hub) == [f"PUT /lfs/{lost}"]


@OF_NEW_CLIENTS
def test_a_download_that_breaks_goes_on_where_it_was(hub, bundle, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    push(bundle, "user/tiny")
    hub.breaks.append(Break("GET .*/resolve/.*/model.safetensors", after=1000))
    hub.asked.clear()
    loaded = EarlyExitASR.from_hparams("user/tiny")
    assert loaded.fingerprint == EarlyExitASR.from_hparams(bundle).fingerprint
    assert any("model.safetensors bytes=1000-" in one for one in hub.asked)
    hub.asked.clear()
    EarlyExitASR.from_hparams("user/tiny")
    assert downloads(hub) == []


def test_a_download_that_never_ends_is_one_line_and_the_next_one_takes_the_rest(hub, bundle):
    push(bundle, "user/tiny")
    hub.breaks.append(Break("GET .*/resolve/.*/model.safetensors", after=1000, times=1000))
    assert load_error("user/tiny").endswith("check the connection and run the same command again")
    hub.breaks.clear()
    hub.asked.clear()
    EarlyExitASR.from_hparams("user/tiny")
    assert all("model.safetensors" in one or "tokenizer" in one for one in downloads(hub))


def test_the_cache_is_used_if_the_hub_cannot_be_reached(hub, bundle, monkeypatch):
    push(bundle, "user/tiny")
    first = EarlyExitASR.from_hparams("user/tiny")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert EarlyExitASR.from_hparams("user/tiny").fingerprint == first.fingerprint
    assert "is not in the cache, and the Hub cannot be reached" in load_error("user/another")


def test_a_private_model_needs_the_token_of_its_owner(hub, bundle, monkeypatch):
    push(bundle, "user/tiny", private=True)
    assert hub.repositories["user/tiny"].private
    EarlyExitASR.from_hparams("user/tiny")
    for number, token in enumerate(["hf_stranger", None]):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(bundle.parent / f"empty{number}"))
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
        told = load_error("user/tiny")
        assert told.startswith("user/tiny: no such model on the Hub, or it is private: check the name;"), told


@pytest.mark.parametrize("call", [lambda bundle: push_error(bundle, "user/tiny"), lambda _: load_error("user/tiny")])
def test_a_wrong_token_is_one_line_without_the_token(hub, bundle, monkeypatch, call):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    told = call(bundle)
    assert told.startswith("user/tiny: the Hub refuses th") and told.endswith(
        "log in with hf auth login, or set HF_TOKEN"
    )
    assert "(status 401)" in told and "hf_wrong" not in told


def test_without_a_token_nothing_is_sent(hub, bundle, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "log in with hf auth login, or set HF_TOKEN" in push_error(bundle, "user/tiny")
    assert uploads(hub) == []


def test_the_place_of_another_user_is_refused(hub, run_folder, tmp_path):
    make_bundle(run_folder, tmp_path / "out", author=CardFacts(hub_name="stranger/tiny"))
    assert "the Hub refuses this (status 403)" in push_error(tmp_path / "out", "stranger/tiny")


def test_the_examples_of_the_card_must_be_for_the_name(hub, bundle):
    told = push_error(bundle, "user/other")
    assert "are for user/tiny, not for user/other: make the bundle again with --hub-name user/other" in told
    dry = CliRunner().invoke(app, ["push", str(bundle), "user/other", "--dry-run"])
    assert dry.exit_code == 1 and hub.asked == []


def test_a_public_model_does_not_become_private_in_silence(hub, bundle):
    push(bundle, "user/tiny")
    assert "exists and is public" in push_error(bundle, "user/tiny", private=True)


def test_a_missing_model_and_a_missing_revision_are_one_line(hub, bundle):
    assert load_error("user/nothing").startswith("user/nothing: no such model on the Hub, or it is private")
    push(bundle, "user/tiny")
    told = load_error("user/tiny", revision="v9")
    assert told == ("user/tiny, revision v9: the Hub has no such revision of it: give a branch, a tag or a commit")
    with pytest.raises(ValueError, match="revision v9 is of a model on the Hub, and .* is a folder: leave it out"):
        EarlyExitASR.from_hparams(bundle, revision="v9")


def test_a_revision_is_loaded_as_it_was(hub, bundle):
    push(bundle, "user/tiny")
    repository = hub.repositories["user/tiny"]
    repository.tags["v1"] = 1
    repository.commits.append({name: data for name, data in files_of(bundle).items() if name != "calibration.json"})
    assert EarlyExitASR.from_hparams("user/tiny").calibration is None
    for revision in ("v1", repository.sha(1)):
        assert EarlyExitASR.from_hparams("user/tiny", revision=revision).calibration is not None


def test_a_folder_on_the_hub_without_a_model_is_named(hub):
    hub.repositories["user/data"] = Repository(commits=[{"data.csv": b"a"}])
    assert "config.json" in load_error("user/data")


def test_a_full_disk_is_one_line(hub, bundle, monkeypatch):
    push(bundle, "user/tiny")

    def write_to_full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", write_to_full_disk)
    assert "user/tiny: the disk is full: free some space and run the same command again" in load_error("user/tiny")


def test_files_that_only_the_earlier_bundle_had_are_removed(hub, bundle):
    push(bundle, "user/tiny")
    repository = hub.repositories["user/tiny"]
    repository.commits[-1]["demo.gif"] = b"added on the page of the model"
    contents = repository.commits[-1]["bundle.json"].replace(b'"files": {', b'"files": {"onnx/old.onnx": {},')
    repository.commits[-1] |= {"onnx/old.onnx": b"old", "bundle.json": contents}
    pushed = push(bundle, "user/tiny")
    assert pushed.removed == ["onnx/old.onnx"]
    assert set(repository.commits[-1]) == {"demo.gif", *files_of(bundle)}


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "user/ti ny", "user/", "-/x" * 50])
def test_a_name_that_the_hub_refuses_is_one_line(hub, bundle, name):
    assert "is not a name on the Hub: give user/name" in push_error(bundle, name)
    assert hub.asked == []


def test_nothing_outside_the_bundle_is_published(hub, bundle):
    (bundle / "secret.txt").write_text("password")
    with pytest.raises(ValueError, match="do not belong to the bundle: secret.txt: remove them"):
        push(bundle, "user/tiny")
    assert hub.asked == []


def test_the_command_lists_the_files_and_prints_the_address(hub, bundle):
    dry = CliRunner().invoke(app, ["push", str(bundle), "user/tiny", "--dry-run"])
    assert dry.exit_code == 0 and hub.asked == [] and "nothing was sent" in dry.stderr and dry.stdout == ""
    done = CliRunner().invoke(app, ["push", str(bundle), "user/tiny"])
    assert done.exit_code == 0 and done.stdout.strip().startswith(f"{hub.url}/user/tiny/commit/")
    for name, data in files_of(bundle).items():
        assert re.search(rf"^ *{len(data):,}  {re.escape(name)}$", done.stderr, re.MULTILINE), name
    assert "hf_user" not in done.output


def test_results_of_another_bundle_do_not_mix(hub, bundle, tmp_path):
    push(bundle, "user/tiny")
    EarlyExitASR.from_hparams("user/tiny", savedir=tmp_path / "saved")
    shutil.rmtree(tmp_path / "cache")
    hub.repositories["user/other"] = Repository(commits=[files_of(bundle) | {"config.json": b"{}"}])
    assert "saved has config.json of user/tiny, not of user/other" in load_error(
        "user/other", savedir=tmp_path / "saved"
    )
