# SPDX-License-Identifier: Apache-2.0
"""The preparation of mini LibriSpeech: dev-clean-2 is divided by speakers."""

import pytest
from recipes.corpora import write_librispeech
from recipes.scripts import RECIPES, load_script

from speechbrain_ee.corpora.manifest import read_manifest


@pytest.fixture(scope="module")
def script():
    return load_script(RECIPES / "mini_librispeech" / "prepare.py")


def test_dev_and_test_have_no_common_speaker(script, tmp_path, capsys):
    speakers = {"84": 2, "174": 1, "251": 1, "422": 1}
    root = write_librispeech(tmp_path / "LibriSpeech", {"train-clean-5": {"19": 2}, "dev-clean-2": speakers})
    assert script.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    sets = {name: read_manifest(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev", "test", "dev-clean-2")}
    assert [one.id for one in sets["train"]] == ["19-198-0000", "19-198-0001"]
    assert [one.speaker for one in sets["dev"]] == ["174", "422"]
    assert [one.speaker for one in sets["test"]] == ["251", "84", "84"]
    assert sorted(one.id for one in sets["dev"] + sets["test"]) == sorted(one.id for one in sets["dev-clean-2"])
    transcript = (root / "dev-clean-2" / "174" / "198" / "174-198.trans.txt").read_text()
    assert f"174-198-0000 {sets['dev'][0].text.upper()}\n" == transcript
    assert "train.jsonl: 2 utterances, 0.00 h, 1 speakers" in capsys.readouterr().out


def test_another_corpus_is_refused(script, tmp_path, capsys):
    write_librispeech(tmp_path / "LibriSpeech", {"train-clean-100": {"19": 1}, "dev-clean-2": {"84": 1}})
    assert script.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "has no subset train-clean-5; found: dev-clean-2, train-clean-100" in capsys.readouterr().err
