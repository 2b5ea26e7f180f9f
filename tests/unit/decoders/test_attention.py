# SPDX-License-Identifier: Apache-2.0
"""Greedy search, beam search and rescoring with an attention decoder, compared with SpeechBrain and with each other."""

import math
from functools import partial

import pytest
import torch
from speechbrain.decoders import S2STransformerGreedySearcher
from unit.models import D_MODEL, make_joint_heads, make_tokenizer

from ee_runtime.decoders import attention
from ee_runtime.decoders.attention import GreedyAttention
from ee_runtime.decoders.attention_search import Limit, cut_loop, greedy_search, score_texts
from ee_runtime.decoders.base import best_tokens
from ee_runtime.decoders.greedy import GreedyCTC
from ee_runtime.decoders.prefix_beam import PrefixBeamCTC
from ee_runtime.decoders.speculation import speculative_search
from ee_runtime.special_tokens import BOS_INDEX, EOS_INDEX
from speechbrain_ee.decoders.attention import BeamAttention, RescoreAttention
from speechbrain_ee.decoders.make import make_decoder
from speechbrain_ee.text.language_model import make_language_model

LENGTHS = torch.tensor([30, 21, 9])


@pytest.fixture
def tokenizer(tmp_path):
    return make_tokenizer(tmp_path)


@pytest.fixture
def output(tokenizer):
    return make_output(tokenizer)


def make_output(tokenizer, seed=0, exit_index=2, **arguments):
    """Make an exit output whose attention decoder depends on the states, varies its tokens, and sometimes emits EOS."""
    heads = make_joint_heads(vocab_size=tokenizer.vocab_size, **arguments)
    decoder = heads.decoders[-1]
    for module in decoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.reset_parameters()
    for layer in decoder.transformer.layers:
        layer.multihead_attn.att.out_proj.weight.data *= 3
    torch.nn.init.normal_(decoder.output.weight)
    decoder.output.bias.data.zero_()
    decoder.output.bias.data[:3] = torch.tensor([-9.0, -9.0, -1.0])  # blank, BOS, EOS
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return heads.head(exit_index, torch.randn(3, 30, D_MODEL, generator=generator) * 2, LENGTHS)


def search(decoder, output):
    return decoder.search(output, [output.row(row) for row in range(len(output.lengths))], best_tokens(output))


def limit(max_tokens, likely_tokens=None):
    return Limit(max_tokens, max_tokens if likely_tokens is None else likely_tokens)


def tokens_of(output):
    return [one.tokens for one in greedy_search(output, [limit(int(length)) for length in LENGTHS])]


class AsSpeechBrainWantsIt(torch.nn.Module):
    """An attention decoder with the interface of TransformerASR."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def decode(self, tgt, encoder_out, enc_len):
        x = self.decoder.embed(tgt)
        mask = torch.full((tgt.shape[1],) * 2, -math.inf).triu(1)
        padding = torch.arange(encoder_out.shape[1]) >= enc_len.unsqueeze(1)
        x, _, attention = self.decoder.transformer(x, encoder_out, tgt_mask=mask, memory_key_padding_mask=padding)
        return x, attention[-1]


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_speechbrains_greedy_cut_to_each_utterances_own_limit(tokenizer, seed):
    output = make_output(tokenizer, seed)
    modules = [AsSpeechBrainWantsIt(output.attention_decoder), output.attention_decoder.output]
    ratios = {"min_decode_ratio": 0.0, "max_decode_ratio": 1.0}
    searcher = S2STransformerGreedySearcher(modules, bos_index=BOS_INDEX, eos_index=EOS_INDEX, **ratios)
    theirs, _, _, _ = searcher(output.state, LENGTHS / 30)
    ours = tokens_of(output)
    assert ours == [[int(t) for t in one][:length] for one, length in zip(theirs, LENGTHS, strict=True)]
    assert len({token for tokens in ours for token in tokens}) >= 2


@pytest.mark.parametrize("seed", range(4))
def test_beam_of_one_without_ctc_is_greedy(tokenizer, seed):
    output = make_output(tokenizer, seed)
    greedy = GreedyAttention(tokenizer).decode(output)
    beam = BeamAttention(tokenizer, beam_size=1, ctc_weight=0.0).decode(output)
    assert [one.text for one in beam] == [one.text for one in greedy]


@pytest.mark.parametrize("kind", [GreedyAttention, BeamAttention, RescoreAttention])
def test_an_utterance_alone_is_the_same_as_in_a_batch(tokenizer, output, kind):
    decoder = kind(tokenizer)
    together = decoder.decode(output)
    for row, in_batch in enumerate(together):
        (alone,) = decoder.decode(output.row(row))
        assert (alone.text, alone.macs, alone.ctc_text) == (in_batch.text, in_batch.macs, in_batch.ctc_text)
        assert [span[:3] for span in alone.spans] == [span[:3] for span in in_batch.spans]
        assert alone.scores == pytest.approx(in_batch.scores, abs=1e-5)


@pytest.mark.parametrize("kind", [GreedyAttention, BeamAttention])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_no_token_past_the_limit_even_if_eos_never_comes(tokenizer, output, kind, ratio, monkeypatch):
    monkeypatch.setattr("ee_runtime.decoders.attention_search.MAX_REPEATS", 99)  # no loop is cut
    output.attention_decoder.output.bias.data[EOS_INDEX] = -1e9
    options = {} if kind is GreedyAttention else {"ctc_weight": 0.0}
    hypotheses = search(kind(tokenizer, max_decode_ratio=ratio, **options), output)
    assert [len(one.tokens) for one in hypotheses] == [int(ratio * length) for length in LENGTHS.tolist()]


@pytest.mark.parametrize("kind", [GreedyAttention, BeamAttention])
def test_eos_at_once_is_an_empty_text(tokenizer, output, kind):
    output.attention_decoder.output.bias.data[EOS_INDEX] = 1e9
    for decoded in kind(tokenizer).decode(output):
        assert decoded.text == "" and decoded.spans == []
        assert decoded.scores["attention_confidence"] == pytest.approx(1.0)


@pytest.mark.parametrize(("kind", "options"), [(GreedyAttention, {}), (BeamAttention, {"ctc_weight": 0.0})])
def test_a_loop_is_cut_and_unreliable_if_the_ctc_text_is_shorter(tokenizer, output, kind, options):
    output.attention_decoder.output.weight.data.zero_()
    output.attention_decoder.output.bias.data.zero_()
    output.attention_decoder.output.bias.data[5] = 9.0  # the same token again and again
    silent = output._replace(log_probs=torch.eye(tokenizer.vocab_size)[[0]].log().expand(3, 30, -1))
    for hypothesis, length in zip(search(kind(tokenizer, **options), silent), LENGTHS.tolist(), strict=True):
        assert hypothesis.tokens == ([5] if length > 10 else [5] * length)
        assert hypothesis.is_cut == (length > 10 or kind is GreedyAttention)
    scores = kind(tokenizer, **options).decode(silent)[0].scores
    assert (scores["attention_entropy"], scores["attention_confidence"]) == (1.0, 0.0)


def test_repeated_phrases_stay_if_the_ctc_text_is_as_long():
    said = [*[4, 5] * 9, 6, 7, 8]
    assert cut_loop(said, Limit.of(99, num_ctc_tokens=len(said))) == said
    assert cut_loop(said, Limit.of(99, num_ctc_tokens=2)) == [4, 5]
    assert cut_loop([9, *[5] * 6, 4], Limit.of(99, num_ctc_tokens=0)) == [
        9,
        *[5] * 6,
        4,
    ]  # a short repetition is not a loop


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("beam_size", "ctc_weight"), [(1, 0.4), (4, 0.0), (10, 0.4), (10, 0.9)])
def test_the_beam_of_the_runtime_is_the_one_of_speechbrain(tokenizer, seed, beam_size, ctc_weight):
    output = make_output(tokenizer, seed)
    options = {"beam_size": beam_size, "ctc_weight": ctc_weight}
    expected = BeamAttention(tokenizer, **options).decode(output)
    found = attention.BeamAttention(tokenizer, PrefixBeamCTC(tokenizer), **options).decode(output)
    assert any(one.text for one in expected), "else nothing is tested"
    for one, other in zip(expected, found, strict=True):
        assert (other.text, other.macs, other.scores) == (one.text, one.macs, pytest.approx(one.scores))


def test_rescoring_keeps_a_certain_ctc_text(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    output = make_output(tokenizer)
    t, space = (tokenizer.vocab_list.index(piece) for piece in ("t", "▁"))
    path = [space, t, 0] * 10
    frames = torch.nn.functional.one_hot(torch.tensor([path]), tokenizer.vocab_size).float().mul(20).log_softmax(-1)
    one = output.row(0)._replace(log_probs=frames)
    assert RescoreAttention(tokenizer).decode(one)[0].text == " ".join("t" * 10)


@pytest.mark.parametrize("kind", [GreedyAttention, BeamAttention, RescoreAttention])
def test_nan_gives_an_empty_and_unreliable_text(tokenizer, output, kind):
    broken = output._replace(state=output.state * math.nan, log_probs=output.log_probs * math.nan)
    for decoded in kind(tokenizer).decode(broken):
        assert decoded.text == "" and not decoded.scores["attention_confidence"] > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("max_tokens", "likely_tokens"), [(30, 30), (30, 8), (7, 7), (0, 0)])
def test_speculative_equals_greedy_search_for_every_draft(tokenizer, seed, max_tokens, likely_tokens):
    bounds = Limit(max_tokens, likely_tokens)
    one = make_output(tokenizer, seed).row(seed)
    (greedy,) = greedy_search(one, [bounds])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(3, tokenizer.vocab_size, (25,), generator=generator).tolist()
    said = greedy.tokens
    for draft in ([], said, said[1:], [*said[:3], 7, *said[3:]], [*said, 4, 4], noise):
        found, counts = speculative_search(one, bounds, draft)
        assert found.tokens == said
        assert found.log_probs == pytest.approx(greedy.log_probs, abs=1e-4)
        assert found.entropies == pytest.approx(greedy.entropies, abs=1e-4)
        assert counts["accepted"] <= min(counts["offered"], len(said) + 1)
        assert found.is_cut == greedy.is_cut
        if draft == said and not greedy.is_cut:
            assert counts == {"passes": 1, "offered": len(said), "accepted": len(said)}
            assert found.macs == greedy.macs


def test_scoring_its_own_text_gives_the_scores_of_the_search(tokenizer, output):
    one = output.row(0)
    (said,) = greedy_search(one, [limit(30)])
    (told,) = score_texts(one, one.start_attention(), [said.tokens])
    assert told.log_probs[: len(said.log_probs)] == pytest.approx(said.log_probs, abs=1e-4)
    assert told.entropies[: len(said.entropies)] == pytest.approx(said.entropies, abs=1e-4)


def test_scores_by_hand(tokenizer, output):
    output.attention_decoder.output.weight.data.zero_()
    output.attention_decoder.output.bias.data.zero_()
    output.attention_decoder.output.bias.data[EOS_INDEX] = math.log(3.0)  # of 12 tokens: EOS 3/14, all others 1/14
    (decoded, *_) = GreedyAttention(tokenizer).decode(output)
    entropy = -(3 / 14 * math.log(3 / 14) + 11 / 14 * math.log(1 / 14)) / math.log(12)
    assert decoded.scores["attention_confidence"] == pytest.approx(3 / 14)
    assert decoded.scores["attention_entropy"] == pytest.approx(entropy)
    assert decoded.scores["ctc_attention_agreement"] == 0.0  # the CTC text is not empty, the attention text is
    assert decoded.ctc_text == GreedyCTC(tokenizer).decode(output)[0].text != ""


def test_rescoring_takes_the_hypothesis_with_the_best_attention_score(tokenizer, output):
    decoder = RescoreAttention(tokenizer, ctc_weight=0.0, beam_size=8)
    for row, chosen in enumerate(search(decoder, output)):
        one = output.row(row)
        texts = [tokenizer.encode(hypothesis.text) for hypothesis in decoder.ctc.n_best(one)[0]]
        told = score_texts(one, one.start_attention(), texts)
        assert sum(chosen.log_probs) == pytest.approx(max(sum(each.log_probs) for each in told), abs=1e-4)
        assert len(texts) > 1


def test_ctc_decodes_exits_without_an_attention_decoder(tokenizer):
    output = make_output(tokenizer, exit_index=0, decoders_at=[4])
    expected = [one.text for one in GreedyCTC(tokenizer).decode(output)]
    (decoded, *rest) = GreedyAttention(tokenizer).decode(output)
    assert [decoded.text, *(one.text for one in rest)] == expected
    assert all(math.isnan(value) for value in decoded.scores.values()) and decoded.macs == 0


def test_words_of_attention_are_in_order_within_their_utterance(tokenizer, output):
    found = GreedyAttention(tokenizer).decode(output)
    assert any(one.spans for one in found), "else nothing is tested"
    for decoded, length in zip(found, LENGTHS.tolist(), strict=True):
        assert " ".join(span.text for span in decoded.spans) == decoded.text
        frames = [frame for span in decoded.spans for frame in (span.start, span.end)]
        assert frames == sorted(frames) and all(0 <= frame <= length for frame in frames)
        assert all(0 < span.confidence <= 1 for span in decoded.spans)


def test_a_language_model_of_any_size_changes_the_beam_and_one_of_other_tokens_is_refused(tokenizer, output):
    folder = tokenizer.path.parent
    torch.manual_seed(0)
    for vocab_size in (tokenizer.vocab_size, 5):
        model = make_language_model(vocab_size=vocab_size, d_model=128, num_layers=2, d_ffn=16)
        torch.save(model.state_dict(), folder / f"{vocab_size}.ckpt")
    heads = make_joint_heads(vocab_size=tokenizer.vocab_size)
    make = partial(make_decoder, "beam", heads, tokenizer, beam_size=3)
    fused = make(lm=folder / f"{tokenizer.vocab_size}.ckpt")
    assert fused.name.endswith("TransformerLM weight 0.6")
    assert [one.text for one in fused.decode(output)] != [one.text for one in make().decode(output)]
    with pytest.raises(ValueError, match="the language model has 5 tokens, the recogniser 12"):
        make(lm=folder / "5.ckpt")
    with pytest.raises(ValueError, match="is not a checkpoint of a TransformerLM"):
        make(lm=tokenizer.path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: GreedyAttention(t, max_decode_ratio=0), "max_decode_ratio=0"),
        (lambda t: BeamAttention(t, beam_size=0), "beam_size is 0: give 1 or more"),
        (lambda t: BeamAttention(t, ctc_weight=1.0), "from 0 to below 1"),
        (lambda t: RescoreAttention(t, ctc_weight=-1), "at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(tokenizer, make, message):
    with pytest.raises(ValueError, match=message):
        make(tokenizer)
