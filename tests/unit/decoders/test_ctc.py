# SPDX-License-Identifier: Apache-2.0
"""Greedy and beam decoding of CTC: exact lengths, padding, agreement, invalid inputs."""

import gzip
import logging
import sys

import pytest
import torch

from ee_runtime.decoders.base import frame_confidences
from ee_runtime.decoders.greedy import GreedyCTC
from speechbrain_ee.decoders.ctc import BeamCTC
from speechbrain_ee.lobes import ExitOutput
from speechbrain_ee.text.language_model import load_language_model
from speechbrain_ee.text.tokenizer import Tokenizer

BLANK, BOS, EOS = 0, 1, 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "char.model"
    return Tokenizer.train(["abc", "cab a"], path=path, model_type="char", vocab_size=7)


@pytest.fixture(scope="module", params=["greedy", "beam of 1", "beam of 8"])
def decoder(request, tokenizer):
    if request.param == "greedy":
        return GreedyCTC(tokenizer)
    return BeamCTC(tokenizer, beam_size=int(request.param.split()[-1]))


def _texts(decoder, log_probs, lengths):
    return [one.text for one in decoder.decode(ExitOutput(log_probs, lengths))]


def _peaked(tokens, vocab_size=7, peak=0.99):
    """log_probs (frames, vocab) with almost all mass on the given token of each frame."""
    probs = torch.full((len(tokens), vocab_size), (1 - peak) / (vocab_size - 1))
    probs[torch.arange(len(tokens)), torch.tensor(tokens)] = peak
    return probs.log()


def _ids(tokenizer, pieces):
    return [BLANK if piece == "-" else tokenizer.vocab_list.index(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("▁aab-bc", "abbc"),
        ("--▁a-▁-b-", "a b"),
        ("▁▁-▁a▁", "a"),
        ("----", ""),
        ("", ""),
    ],
)
def test_ctc_rules_by_hand(decoder, tokenizer, path, text):
    ids = _ids(tokenizer, path)
    padded = _peaked([*ids, *_ids(tokenizer, "cc")])  # frames beyond the length say "cc"
    assert _texts(decoder, padded.unsqueeze(0), torch.tensor([len(ids)])) == [text]


@pytest.mark.parametrize(("model_type", "vocab_size"), [("char", None), ("bpe", 24)])
def test_words_joined_are_the_greedy_text_for_random_paths(tmp_path, model_type, vocab_size):
    texts = ["the cat sat on the mat", "a hat", "at the hat"]
    tokenizer = Tokenizer.train(texts, path=tmp_path / "t.model", model_type=model_type, vocab_size=vocab_size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        path = torch.randint(tokenizer.vocab_size, (1, 25), generator=generator)
        log_probs = torch.nn.functional.one_hot(path, tokenizer.vocab_size).float().mul(9).log_softmax(-1)
        decoded = GreedyCTC(tokenizer).decode(ExitOutput(log_probs, torch.tensor([25])))[0]
        assert " ".join(span.text for span in decoded.spans) == decoded.text
        frames = [frame for span in decoded.spans for frame in (span.start, span.end)]
        assert frames == sorted(frames) and all(span.start < span.end for span in decoded.spans)
        assert decoded.scores == {}


def test_the_beam_gives_the_same_words_if_it_is_certain(tokenizer):
    output = ExitOutput(_peaked(_ids(tokenizer, "-aa-b▁c-"), peak=0.999).unsqueeze(0), torch.tensor([8]))
    greedy, beam = (decoder.decode(output)[0] for decoder in (GreedyCTC(tokenizer), BeamCTC(tokenizer)))
    assert greedy.text == beam.text == "ab c"
    assert [span.text for span in beam.spans] == ["ab", "c"]
    assert 0 < beam.scores["posterior"] <= 1


def test_a_blank_does_not_lower_the_confidence_of_a_word(tokenizer):
    pairs = zip(_ids(tokenizer, "a-b"), (0.8, 0.3, 0.7), strict=True)
    log_probs = torch.cat([_peaked([token], peak=peak) for token, peak in pairs])
    output = ExitOutput(log_probs.unsqueeze(0), torch.tensor([3]))
    assert frame_confidences(output)[0] == pytest.approx([0.8, 1.0, 0.7])
    (span,) = GreedyCTC(tokenizer).decode(output)[0].spans
    assert span.text == "ab" and span.confidence == pytest.approx(0.7)


def test_control_tokens_are_no_text(decoder, tokenizer):
    a, b = _ids(tokenizer, "ab")
    frames = _peaked([BOS, a, a, BOS, a, EOS, BOS, b, EOS])
    assert _texts(decoder, frames.unsqueeze(0), torch.tensor([9])) == ["aab"]


def test_lengths_are_exact_for_every_padding(tokenizer):
    # SpeechBrain's beam truncates relative lengths: 32 of 41 frames would lose the last one.
    decoders = [GreedyCTC(tokenizer), BeamCTC(tokenizer, beam_size=1)]
    blank, b, c = _peaked(_ids(tokenizer, "-bc"))
    for frames in (41, 47, 58):
        lengths = torch.arange(1, frames + 1)
        log_probs = c.repeat(frames, frames, 1)  # beyond its length every row says "c"
        for row, length in enumerate(lengths):
            log_probs[row, : length - 1] = blank
            log_probs[row, length - 1] = b
        for decoder in decoders:
            assert _texts(decoder, log_probs, lengths) == ["b"] * frames


@pytest.mark.parametrize("padding", [0.0, float("nan"), float("-inf")])
def test_an_utterance_alone_equals_padded_in_a_batch(decoder, padding):
    torch.manual_seed(0)
    lengths = [12, 5, 1]
    alone = [torch.randn(1, n, 7).mul(2).log_softmax(-1) for n in lengths]
    batch = torch.full((3, 20, 7), padding)
    for row, one in enumerate(alone):
        batch[row, : one.shape[1]] = one[0]
    texts = _texts(decoder, batch, torch.tensor(lengths))
    assert texts == [_texts(decoder, one, torch.tensor([one.shape[1]]))[0] for one in alone]
    assert any(texts)


def test_beam_of_one_equals_greedy_on_peaked_posteriors(tokenizer):
    generator = torch.Generator().manual_seed(0)
    paths = torch.randint(0, 7, (20, 30), generator=generator)
    log_probs = torch.stack([_peaked(path.tolist()) for path in paths])
    lengths = torch.randint(0, 31, (20,), generator=generator)
    greedy = _texts(GreedyCTC(tokenizer), log_probs, lengths)
    assert _texts(BeamCTC(tokenizer, beam_size=1), log_probs, lengths) == greedy
    assert len(set(greedy)) > 10


def test_beam_adds_up_the_paths_of_a_text(tokenizer):
    # Best path: two blanks, 0.36. But "a" is a-, -a and aa together: 0.64.
    a = _ids(tokenizer, "a")[0]
    probs = torch.full((2, 7), 1e-9)
    probs[:, BLANK], probs[:, a] = 0.6, 0.4
    log_probs, lengths = probs.log().unsqueeze(0), torch.tensor([2])
    assert _texts(GreedyCTC(tokenizer), log_probs, lengths) == [""]
    assert _texts(BeamCTC(tokenizer, beam_size=4), log_probs, lengths) == ["a"]


def test_half_precision_is_decoded(decoder, tokenizer):
    log_probs = _peaked(_ids(tokenizer, "▁a-b")).bfloat16().unsqueeze(0)
    assert _texts(decoder, log_probs, torch.tensor([4])) == ["ab"]


def test_another_vocabulary_is_refused(decoder):
    with pytest.raises(ValueError, match=r"\(batch, frames, 7\) for this tokenizer"):
        _texts(decoder, torch.zeros(1, 3, 8), torch.tensor([3]))


def test_relative_lengths_are_refused(decoder):
    with pytest.raises(ValueError, match="convert relative wav_lens"):
        _texts(decoder, torch.zeros(1, 3, 7), torch.tensor([1.0]))


def test_empty_beam_is_refused(tokenizer):
    with pytest.raises(ValueError, match="beam_size is 0: give 1 or more"):
        BeamCTC(tokenizer, beam_size=0)


def test_missing_kenlm_says_what_to_install(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(ImportError, match=r'pip install "speechbrain_ee\[lm\]"') as error:
        BeamCTC(tokenizer, kenlm_model_path="lm.arpa")
    assert "\n" not in str(error.value)


def test_missing_language_model_is_refused(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr("speechbrain_ee.decoders.ctc.find_spec", lambda name: name)
    with pytest.raises(ValueError, match="lm.arpa does not exist"):
        BeamCTC(tokenizer, kenlm_model_path=tmp_path / "lm.arpa")


ARPA = "\\data\\\nngram 1={}\nngram 2=1\n\n\\1-grams:\n-3\t<unk>\n0\t<s>\t0\n-1\t</s>\n{}"
ARPA += "\n\\2-grams:\n-0.1\t<s> {}\n\n\\end\\\n"


def write_arpa(path, *words):
    path.write_text(ARPA.format(3 + len(words), "".join(f"-1\t{word}\t0\n" for word in words), words[0]))
    return path


def test_a_language_model_of_words_that_cannot_be_written_is_refused(tokenizer, tmp_path, caplog):
    pytest.importorskip("kenlm", reason='needs pip install "speechbrain_ee[lm]"')
    path = write_arpa(tmp_path / "up.arpa", "A", "BA")
    with pytest.raises(ValueError, match=r"no word of .*up\.arpa \(first: 'A'\).*train it on texts in lower case$"):
        BeamCTC(tokenizer, kenlm_model_path=path)
    with gzip.open(tmp_path / "up.arpa.gz", "wb") as file:
        file.write(path.read_bytes())
    with pytest.raises(ValueError, match=r"no word of .*up\.arpa\.gz"):
        BeamCTC(tokenizer, kenlm_model_path=tmp_path / "up.arpa.gz")
    with caplog.at_level(logging.WARNING):
        BeamCTC(tokenizer, kenlm_model_path=write_arpa(tmp_path / "half.arpa", "a", "B"))
        assert "can write" not in caplog.text
        BeamCTC(tokenizer, kenlm_model_path=write_arpa(tmp_path / "most.arpa", "a", "B", "A"))
    assert "can write 1 of 3 words of the language model (not 'A', for example)" in caplog.text


def test_a_language_model_that_is_no_file_of_one(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("speechbrain_ee.decoders.ctc.find_spec", lambda name: name)
    with pytest.raises(ValueError, match="is a folder; give an ARPA or KenLM binary"):
        BeamCTC(tokenizer, kenlm_model_path=tmp_path)
    (tmp_path / "lm.arpa").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n")
    with pytest.raises(ValueError, match="lm.arpa is a pointer of Git LFS, .* run git lfs pull"):
        BeamCTC(tokenizer, kenlm_model_path=tmp_path / "lm.arpa")
    with pytest.raises(ValueError, match="lm.arpa is a pointer of Git LFS"):
        load_language_model(tmp_path / "lm.arpa")


def test_language_model_changes_the_text(tokenizer, tmp_path):
    arpa = tmp_path / "lm.arpa"
    unigrams = "-3\t<unk>\n0\t<s>\t0\n-1\t</s>\n-5\ta\t0\n-0.1\tb\t0\n"
    counts = "\\data\\\nngram 1=5\nngram 2=1\n\n"
    arpa.write_text(f"{counts}\\1-grams:\n{unigrams}\n\\2-grams:\n-0.1\t<s> b\n\n\\end\\\n")
    a, b, space = _ids(tokenizer, "ab▁")
    probs = torch.full((1, 2, 7), 1e-9)
    probs[0, 0, space] = 1.0
    probs[0, 1, a], probs[0, 1, b] = 0.55, 0.45
    args = probs.log(), torch.tensor([2])
    assert _texts(BeamCTC(tokenizer), *args) == ["a"]
    assert _texts(BeamCTC(tokenizer, kenlm_model_path=arpa), *args) == ["b"]
    arpa.write_text("no model")
    with pytest.raises(ValueError, match=r"cannot read language model .*lm\.arpa"):
        BeamCTC(tokenizer, kenlm_model_path=arpa)
