# SPDX-License-Identifier: Apache-2.0
"""CTC beam over the words of a language model: comparison with all paths, frames of words, invalid inputs."""

import itertools
import math
import sys

import pytest
import torch

from speechbrain_ee.decoders.make import make_decoder
from speechbrain_ee.lobes import CTCHeads, ExitOutput
from speechbrain_ee.text.tokenizer import Tokenizer

pytest.importorskip("flashlight.lib.text", reason='needs pip install "speechbrain_ee[lm]"')
from speechbrain_ee.decoders.lexicon import LexiconCTC

UNIGRAMS = {"<s>": 0.0, "</s>": -0.9, "a": -0.6, "ab": -0.8, "bb": -0.7}
BIGRAMS = {("a", "ab"): -0.2, ("<s>", "bb"): -1.5}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "char.model"
    return Tokenizer.train(["ab b"], path=path, model_type="char")


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    unigrams = "".join(f"{value}\t{word}\t-0.1\n" for word, value in UNIGRAMS.items())
    bigrams = "".join(f"{value}\t{' '.join(pair)}\n" for pair, value in BIGRAMS.items())
    counts = f"\\data\\\nngram 1={len(UNIGRAMS) + 3}\nngram 2={len(BIGRAMS)}\n\n"
    strange = "-1\tcab\t0\n-1\tnaïve\t0\n-3\t<unk>\n"  # letters that the tokenizer does not have, and a special word
    path.write_text(f"{counts}\\1-grams:\n{unigrams}{strange}\n\\2-grams:\n{bigrams}\n\\end\\\n", "utf-8")
    return path


def language_model(words):
    """Log-probability (natural) by the rules of ARPA files."""
    pairs = itertools.pairwise(["<s>", *words, "</s>"])
    return math.log(10) * sum(BIGRAMS.get(pair, -0.1 + UNIGRAMS[pair[1]]) for pair in pairs)


def best_by_hand(log_probs, tokenizer, alpha, beta):
    """Return the most probable text of listed words: the sum over its paths, times the language model probability."""
    sums = {}
    for path in itertools.product(range(tokenizer.vocab_size), repeat=len(log_probs)):
        words = tokenizer.decode([token for token, _ in itertools.groupby(path)]).split()
        if set(words) <= set(UNIGRAMS):
            score = sum(log_probs[frame, token].item() for frame, token in enumerate(path))
            sums[tuple(words)] = sums.get(tuple(words), 0.0) + math.exp(score)
    return " ".join(
        max(sums, key=lambda words: math.log(sums[words]) + alpha * language_model(words) + beta * len(words))
    )


def texts(decoder, log_probs, lengths):
    return [one.text for one in decoder.decode(ExitOutput(log_probs, torch.tensor(lengths)))]


def peaked(tokenizer, pieces, peak=0.9):
    ids = [0 if piece == "-" else tokenizer.vocab_list.index(piece) for piece in pieces]
    probs = torch.full((len(ids), tokenizer.vocab_size), (1 - peak) / (tokenizer.vocab_size - 1))
    probs[torch.arange(len(ids)), torch.tensor(ids, dtype=torch.long)] = peak
    return probs.log()


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.5, 0.0), (1.5, 2.0)])
def test_it_finds_the_text_whose_paths_are_the_likeliest(tokenizer, arpa, alpha, beta):
    decoder = LexiconCTC(tokenizer, kenlm_model_path=arpa, alpha=alpha, beta=beta)
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(25):
        log_probs = (2 * torch.randn(1, 5, tokenizer.vocab_size, generator=generator)).log_softmax(-1)
        log_probs[..., 1:3] = -30.0  # no path contains BOS or EOS
        found += texts(decoder, log_probs, [5])
        assert found[-1] == best_by_hand(log_probs[0], tokenizer, alpha, beta)
    assert len(set(found)) > 3


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("▁a", "a"),
        ("a", "a"),
        ("▁aabb", "ab"),
        ("▁bb-bb", "bb"),
        ("▁▁-▁aa▁--▁-a-bb▁", "a ab"),
        ("▁a▁b-bbbb▁aa", "a bb a"),
        ("----", ""),
        ("", ""),
    ],
)
def test_ctc_rules_by_hand(tokenizer, arpa, path, text):
    decoder = LexiconCTC(tokenizer, kenlm_model_path=arpa, alpha=0.0)
    padded = torch.cat([peaked(tokenizer, path), peaked(tokenizer, "-ab")])
    assert texts(decoder, padded[None], [len(path)]) == [text]


def test_words_have_the_frames_of_their_letters(tokenizer, arpa):
    decoder = LexiconCTC(tokenizer, kenlm_model_path=arpa, alpha=0.0)
    log_probs = peaked(tokenizer, "▁-a-▁-bb-b-")
    (decoded,) = decoder.decode(ExitOutput(log_probs[None], torch.tensor([len(log_probs)])))
    assert [(span.text, span.start, span.end) for span in decoded.spans] == [("a", 2, 3), ("bb", 6, 10)]
    assert all(span.confidence == pytest.approx(0.9) for span in decoded.spans)
    assert 0 < decoded.scores["posterior"] < 1


def test_a_beam_that_ends_within_a_word_gives_the_words_before(tokenizer, arpa):
    decoder = LexiconCTC(tokenizer, kenlm_model_path=arpa, beam_size=1, alpha=0.0)
    log_probs = peaked(tokenizer, "▁a▁b")
    (decoded,) = decoder.decode(ExitOutput(log_probs[None], torch.tensor([4])))
    assert (decoded.text, [span.text for span in decoded.spans]) == ("a", ["a"])


def test_an_utterance_that_is_no_number_has_no_text(tokenizer, arpa):
    decoder = LexiconCTC(tokenizer, kenlm_model_path=arpa)
    log_probs = torch.full((1, 3, tokenizer.vocab_size), math.nan)
    (decoded,) = decoder.decode(ExitOutput(log_probs, torch.tensor([3])))
    assert decoded.text == ""
    assert math.isnan(decoded.scores["posterior"])


def test_it_is_made_by_its_name_and_wants_a_language_model(tokenizer, arpa):
    heads = CTCHeads(num_exits=1, d_model=2, vocab_size=tokenizer.vocab_size)
    made = make_decoder("lexicon", heads, tokenizer, lm=arpa, lm_weight=0.7, word_bonus=1.0, beam_size=20)
    assert made.name == "CTC beam 20 over the words of lm.arpa, weight 0.7, bonus 1.0"
    with pytest.raises(ValueError, match="lexicon takes its words from a language model: give lm"):
        make_decoder("lexicon", heads, tokenizer)


def test_bad_input_is_one_line(tokenizer, arpa, tmp_path, monkeypatch):
    def fails(error, match, tokens=tokenizer, lm=arpa, **options):
        with pytest.raises(error, match=match) as caught:
            LexiconCTC(tokens, kenlm_model_path=lm, **options)
        assert "\n" not in str(caught.value)

    fails(ValueError, "beam_size is 0: give 1 or more", beam_size=0)
    fails(ValueError, "nothing.arpa does not exist; give an ARPA file", lm=tmp_path / "nothing.arpa")
    (tmp_path / "no.arpa").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0\xff" * 50)
    fails(ValueError, "not an ARPA file: give one", lm=tmp_path / "no.arpa")
    broken = tmp_path / "broken.arpa"
    broken.write_text(arpa.read_text("utf-8")[:-40], "utf-8")
    fails(ValueError, "cannot read language model .*broken.arpa", lm=broken)
    bpe = Tokenizer.train(["ab b ab b"], path=tmp_path / "bpe.model", vocab_size=8)
    fails(ValueError, "lexicon needs single letters as tokens, and this model has tokens such as", tokens=bpe)
    other = Tokenizer.train(["xyz"], path=tmp_path / "other.model", model_type="char")
    fails(ValueError, r"can write no word of the language model .*lm\.arpa \(first: 'a'\), so every", tokens=other)
    capitals = tmp_path / "capitals.arpa"
    capitals.write_text(arpa.read_text("utf-8").replace("ab", "AB").replace("\ta", "\tA").replace("bb", "BB"), "utf-8")
    fails(ValueError, "can write no word of .*capitals.arpa .*train it on texts in lower case", lm=capitals)
    monkeypatch.setitem(sys.modules, "torchaudio.models.decoder", None)
    fails(ImportError, r'pip install "speechbrain_ee\[lm\]"')
