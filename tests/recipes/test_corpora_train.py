# SPDX-License-Identifier: Apache-2.0
"""The recipes of public corpora: from a tree of the shape of the corpus to a table, and the yamls at full size."""

import json
import re

import pytest
from hyperpyyaml import load_hyperpyyaml
from recipes.scripts import RECIPES, load_script
from recipes.tiny import train

from recipes import corpora
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.replay.utterances import read_utterances

CORPORA = ("TEDLIUM3", "VoxPopuli", "mini_librispeech", "SpeechOcean762", "AISHELL-1")
STM = "{talk} 1 {talk} {start} {end} <o,f0,male> {text}"


def write_tree(name, folder):
    """Write a small tree of a corpus: some ten training utterances of noise, and a few for dev and test."""
    sentences = ["mister quilter is the apostle", "of the middle classes", "and we are glad", "to welcome his gospel"]
    if name == "TEDLIUM3":
        sizes = {"train": 10, "dev": 3, "test": 2}
        talks = {
            part: {
                f"Talk_{part}": [
                    STM.format(talk=f"Talk_{part}", start=1.5 * n + 0.25, end=1.5 * n + 1.5, text=sentences[n % 4])
                    for n in range(size)
                ]
            }
            for part, size in sizes.items()
        }
        return corpora.write_tedlium(folder, talks, seconds=16)
    if name == "VoxPopuli":
        sizes = {"train": 10, "dev": 3, "test": 2}
        return corpora.write_voxpopuli(
            folder,
            {part: [(f"2009-{part}-{n}", sentences[n % 4], "1") for n in range(n_)] for part, n_ in sizes.items()},
        )
    if name == "mini_librispeech":
        return corpora.write_librispeech(folder, {"train-clean-5": {"19": 10}, "dev-clean-2": {"84": 3, "174": 3}})
    if name == "SpeechOcean762":
        return corpora.write_speechocean(folder, {"train": [f"{n:04}" for n in range(1, 11)], "test": ["0020"]})
    return corpora.write_aishell(
        folder, {"train": ["S0002", "S0003", "S0004", "S0005"], "dev": ["S0724"], "test": ["S0764"]}
    )


@pytest.mark.parametrize("name", CORPORA)
def test_from_the_corpus_to_a_table(name, tmp_path):
    tree, out, run = write_tree(name, tmp_path / "corpus"), tmp_path / "manifests", tmp_path / "run"
    assert load_script(RECIPES / name / "prepare.py").main([str(tree), "--out", str(out)]) == 0
    settings = corpora.SMALL | {"data_folder": out, "output_folder": run}
    if name in ("TEDLIUM3", "VoxPopuli"):
        settings["vocab_size"] = 48  # 37 characters, the space, <unk>, BOS and EOS, and some pieces
    flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    yaml = RECIPES / name / "hparams" / "conformer_ee.yaml"
    ended = train([str(yaml), "--device", "cpu", "--noprogressbar", *flags], tmp_path / "out")
    assert ended.status == 0, ended.stderr[-3000:]
    for part in ("dev", "test"):
        exits = json.loads((run / "eval" / part / "exits.json").read_text())
        utterances = read_manifest(out / f"{part}.jsonl")
        assert [row["layer"] for row in exits["exits"]] == [1, 3]
        assert exits["error_unit"] == ("char" if name == "AISHELL-1" else "word")
        assert exits["duration_s"] == pytest.approx(sum(one.duration for one in utterances), abs=0.01)
        lines = read_utterances(run / "eval" / part / "utterances.jsonl")
        assert {line["id"]: line["reference"] for line in lines} == {one.id: one.text for one in utterances}
    assert json.loads((run / "calibration.json").read_text())
    assert "test: " in ended.stdout


@pytest.mark.parametrize("name", [name for name in CORPORA if name != "AISHELL-1"])
def test_the_yaml_has_the_stated_number_of_parameters(name, tmp_path):
    path = RECIPES / name / "hparams" / "conformer_ee.yaml"
    with open(path, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, {"data_folder": "unused", "output_folder": str(tmp_path)})
    if hparams["vocab_size"] is None:
        hparams["heads"].set_vocab_size(31)  # 26 letters, the apostrophe, the space, <unk>, BOS and EOS
    stated = re.search(r"([\d,]+) parameters", path.read_text("utf-8"))[1]
    assert sum(p.numel() for part in hparams["modules"].values() for p in part.parameters()) == int(
        stated.replace(",", "")
    )
