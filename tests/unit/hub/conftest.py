# SPDX-License-Identifier: Apache-2.0
"""A bundle of a tiny evaluated and calibrated model, and a local Hub that this process uses."""

import shutil

import pytest
from hub import serve
from huggingface_hub import constants, file_download
from unit.cases import three_utterances
from unit.models import make_asr

from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import ScoreThreshold
from speechbrain_ee.evaluation.tables import write_exits
from speechbrain_ee.hub.bundle import make_bundle
from speechbrain_ee.hub.card import CardFacts
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import save_model


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run folder with an evaluated set and a calibration."""
    folder = tmp_path_factory.mktemp("trained")
    asr = make_asr(folder)
    save_model(folder / "run", asr.mods, tokenizer=folder / "tokenizer.model")
    model = EarlyExitASR.from_hparams(folder / "run").fingerprint
    for name in ("dev", "test"):
        write_exits(
            folder / "run" / "eval" / name,
            three_utterances(),
            test_set=name,
            decoding="greedy CTC",
            params=[10, 20],
            rtf=[0.001, 0.002],
            rtf_machine={"cpu": "a CPU", "threads": 1, "gflops": 12.5},
            model=model,
        )
    fitted = {"test_set": "dev", "num_utterances": 3, "wer": 50.0, "full_wer": 25.0, "mean_layer": 2.5}
    policy = ScoreThreshold("entropy", 0.2).to_dict()
    write_calibration(folder / "run", {"policy": policy, "promise": None, "fitted_on": fitted, "model": model})
    return folder / "run"


@pytest.fixture(scope="session")
def made(run_folder, tmp_path_factory):
    """A bundle, made once; use ``bundle`` to change it."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    author = CardFacts(hub_name="user/tiny", languages=["en"], datasets={"user/data": "cc-by-4.0"})
    make_bundle(run_folder, out, author=author)
    return out


@pytest.fixture
def bundle(made, tmp_path):
    """A copy of the bundle that a test may change."""
    shutil.copytree(made, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local Hub with no models; this process uses it, with an empty cache and the token of ``user``."""
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # old versions have it in both
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=module is constants)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # not in old versions
        monkeypatch.setenv("HF_TOKEN", "hf_user")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the retries of the client
        yield server
