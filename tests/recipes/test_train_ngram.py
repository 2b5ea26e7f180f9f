# SPDX-License-Identifier: Apache-2.0
"""train_ngram.py: a word language model from manifests, estimated by the installed tool."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipes.scripts import RECIPES, load_script

SCRIPT = RECIPES / "train_ngram.py"


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPT)


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "train.jsonl"
    texts = ["The cat sat.", "the cat ran", "a dog sat", "the dog ran home"] * 5
    rows = ({"id": str(n), "audio_filepath": "a.wav", "duration": 1.0, "text": text} for n, text in enumerate(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True)


def test_texts_are_words_and_listed_words_stand_alone(script, tmp_path, manifest):
    text, book, words = tmp_path / "lines.txt", tmp_path / "book.txt", tmp_path / "words.txt"
    text.write_text("Call me Ishmael -- it's 3 o'clock!\n\n", "utf-8")
    book.write_text('"Call me\nIshmael." Some years ago\n\nWhale!\n', "utf-8")
    words.write_text("whale\nharpoon\n", "utf-8")
    lines = script.sentences([manifest], [text], [book], [words], repeat=2)
    assert len(lines) == 2 * 20 + 1 + 2 + 3
    assert lines[0] == "the cat sat"
    own, others = lines[: 2 * 20], lines[2 * 20 :]
    assert own[:20] == own[20:]
    assert others == ["call me ishmael it's o'clock", "whale", "harpoon", "call me ishmael", "some years ago", "whale"]


def test_nothing_to_learn_from_is_one_line(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("123\n", "utf-8")
    ended = run("--text", empty, "--out", tmp_path / "lm.arpa")
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines() == [
        "train_ngram.py: error: these files contain no words: give manifests with texts, --text or --books"
    ]


def test_without_a_tool_it_says_what_to_install(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(script, "IRSTLM", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither KenLM's lmplz nor IRSTLM is installed"):
        script.estimate(["a"], 2, tmp_path / "lm.arpa")


def test_the_model_prefers_what_it_has_seen(script, tmp_path, manifest):
    if not (shutil.which("lmplz") or Path(script.IRSTLM).exists()):
        pytest.skip("neither lmplz nor IRSTLM is installed")
    kenlm = pytest.importorskip("kenlm", reason='needs pip install "speechbrain_ee[lm]"')
    ended = run(manifest, "--order", 2, "--out", tmp_path / "new" / "lm.arpa")
    assert ended.returncode == 0, ended.stderr
    assert "2-grams of 20 lines, 7 words" in ended.stdout
    model = kenlm.Model(str(tmp_path / "new" / "lm.arpa"))
    assert model.score("the cat sat") > model.score("sat cat the") > model.score("sat hippopotamus the")
