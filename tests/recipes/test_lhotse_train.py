# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation on the cuts that lhotse's own recipe gives for a tree of TED-LIUM's shape."""

import json
import os

import pytest
from recipes.test_corpora_train import write_tree
from recipes.tiny import ROOT, train

from recipes import corpora
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.replay.utterances import read_utterances

SPLITS = ("train", "dev", "test")


@pytest.fixture
def cuts(tmp_path):
    """The folder of ``train.jsonl.gz``, ``dev.jsonl.gz`` and ``test.jsonl.gz``."""
    pytest.importorskip("lhotse")
    from lhotse import CutSet
    from lhotse.audio.backend import audio_backend
    from lhotse.recipes import prepare_tedlium

    tree = write_tree("TEDLIUM3", tmp_path / "corpus")
    with audio_backend("LibsndfileBackend"):  # by default, lhotse reads SPHERE with a program that is to be installed
        corpora_of_splits = prepare_tedlium(tree)
    for name, corpus in corpora_of_splits.items():
        cuts = CutSet.from_manifests(**corpus).trim_to_supervisions(keep_overlapping=False)
        cuts.to_file(tmp_path / f"{name}.jsonl.gz")
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="a fork server runs the training")
def test_cuts_of_a_lhotse_recipe_train_and_evaluate(cuts):
    run, (train_cuts, dev, test) = cuts / "run", (cuts / f"{split}.jsonl.gz" for split in SPLITS)
    assert all(one.offset is not None for one in read_manifest(train_cuts)), "parts of talks"
    options = corpora.SMALL | {"prepare": "null", "output_folder": run}
    options |= {"train_manifest": train_cuts, "valid_manifest": dev, "test_manifests": f"[{test}]"}
    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    ended = train([str(ROOT / "hparams/conformer_ee.yaml"), "--device=cpu", "--noprogressbar", *flags], cuts / "log")
    assert ended.status == 0, ended.stderr[-3000:]
    for manifest, name in ((dev, "dev"), (test, "test")):
        utterances = read_manifest(manifest)
        lines = read_utterances(run / "eval" / name / "utterances.jsonl")
        assert {line["id"]: line["reference"] for line in lines} == {one.id: one.text for one in utterances}
        exits = json.loads((run / "eval" / name / "exits.json").read_text("utf-8"))
        assert exits["duration_s"] == pytest.approx(sum(one.duration for one in utterances), abs=0.01)
