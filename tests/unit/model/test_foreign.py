# SPDX-License-Identifier: Apache-2.0
"""A run folder of another recipe's modules gives what these modules give; what cannot be carried over is named."""

import logging

import pytest
import torch
from speechbrain.dataio.encoder import CTCTextEncoder
from speechbrain.decoders import ctc_greedy_decode
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.CRDNN import CRDNN
from speechbrain.nnet.linear import Linear
from speechbrain.processing.features import InputNormalization
from unit.models import D_MODEL, N_MELS, VOCAB, make_encoder, make_joint_heads, make_tokenizer

from ee_runtime.policies import FixedExit
from speechbrain_ee import EarlyExitASR, save_run
from speechbrain_ee.lobes import CTCHeads, LogMel
from speechbrain_ee.model.foreign import with_labels
from speechbrain_ee.text.foreign_labels import Labels

LETTERS = "the casr"


@pytest.fixture
def parts():
    """Return the modules of a recipe with letters as labels, the blank among them."""
    labels = CTCTextEncoder()
    labels.update_from_iterable([list(LETTERS)])
    labels.insert_blank(index=4)
    fbank, normalizer = Fbank(n_mels=N_MELS, n_fft=512), InputNormalization()
    feats = normalizer(fbank(0.1 * torch.randn(2, 8000)))
    encoder = make_encoder("conformer")
    torch.manual_seed(1)
    heads = CTCHeads(num_exits=3, d_model=D_MODEL, vocab_size=len(labels)).eval()
    with torch.no_grad():
        states, _ = encoder(feats, torch.tensor([feats.shape[1]] * 2))
        for head, state in zip(heads.heads, states, strict=True):  # tokens change with time
            head[-1].bias.copy_(-head[-1].weight @ state.mean((0, 1)))
    return {"features": fbank, "normalizer": normalizer.eval(), "encoder": encoder, "heads": heads, "labels": labels}


@torch.no_grad()
def test_every_exit_gives_the_text_and_probabilities_of_the_recipes_modules(parts, tmp_path):
    save_run(tmp_path / "run", **parts)
    asr = EarlyExitASR.from_hparams(tmp_path / "run")
    wavs, num_samples = 0.1 * torch.randn(2, 20000), torch.tensor([20000, 20000])
    feats = parts["normalizer"](parts["features"](wavs))
    outputs = parts["heads"](*parts["encoder"](feats, torch.tensor([feats.shape[1]] * 2)))
    ours = asr.mods.heads(*asr.mods.encoder(*asr.mods.features(wavs, num_samples)))
    found_texts = []
    labels, pieces = parts["labels"], asr.tokenizer.vocab_list
    for layer, output, found in zip(asr.exit_layers, outputs, ours, strict=True):
        of_label = {label.replace(" ", "▁"): index for label, index in labels.lab2ind.items()} | {"<unk>": 4}
        for token, piece in enumerate(pieces):
            if piece in of_label:
                torch.testing.assert_close(found.log_probs[..., token], output.log_probs[..., of_label[piece]])
            else:
                assert found.log_probs[..., token].exp().max() == 0
        ids = ctc_greedy_decode(output.log_probs, output.wav_lens, blank_id=4)
        texts = ["".join(labels.decode_ndim(row)) for row in ids]
        transcripts = asr.transcribe_waveforms(list(wavs), policy=FixedExit(layer))
        assert [one.text for one in transcripts] == [" ".join(text.split()) for text in texts]
        found_texts += texts
    assert len(set(found_texts)) >= 4 and set("".join(found_texts)) == set(LETTERS)


def test_labels_in_the_order_of_this_package_leave_the_heads_alone(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    heads = CTCHeads(num_exits=3, d_model=D_MODEL, vocab_size=VOCAB)
    save_run(
        tmp_path / "run",
        features=LogMel(n_mels=N_MELS),
        encoder=make_encoder("conformer"),
        heads=heads,
        labels=tokenizer.processor,
    )
    found = EarlyExitASR.from_hparams(tmp_path / "run")
    assert (tmp_path / "run/tokenizer.model").read_bytes() == (tmp_path / "tokenizer.model").read_bytes()
    for ours, theirs in zip(found.mods.heads.state_dict().values(), heads.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_outputs_without_a_label_are_left_out_with_a_warning(caplog):
    heads = CTCHeads(num_exits=2, d_model=D_MODEL, vocab_size=9)
    with caplog.at_level(logging.WARNING):
        found = with_labels(heads, Labels(b"", tuple(range(7))))
    assert "have 9 outputs for 7 labels: the last ones are left out" in caplog.text
    assert torch.equal(found.heads[1][-1].weight, heads.heads[1][-1].weight[:7])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": torch.nn.Linear(2, 2)}, "features is a Linear: give the recipe's Fbank, or LogMel"),
        ({"features": LogMel(n_mels=N_MELS)}, "normalizer is given, but LogMel has its own statistics"),
        ({"normalizer": InputNormalization()}, "the normaliser has no statistics yet"),
        ({"encoder": CRDNN(input_shape=(None, None, N_MELS))}, "encoder is a CRDNN, .*exit_encoder"),
        ({"heads": Linear(n_neurons=9, input_size=D_MODEL)}, "heads is a Linear, .*exit_heads"),
        ({"heads": CTCHeads(num_exits=3, d_model=D_MODEL, vocab_size=8)}, "have 8 outputs, but there are 9 labels"),
        ({"heads": CTCHeads(num_exits=2, d_model=D_MODEL, vocab_size=9)}, "numbers of exits .* are 3 and 2"),
        ({"heads": CTCHeads(num_exits=3, d_model=8, vocab_size=9)}, "d_model of encoder and heads are 16 and 8"),
        ({"heads": make_joint_heads(vocab_size=9)}, "attention decoders need labels with <unk>, BOS and EOS at 0, 1"),
        ({"features": Fbank(), "normalizer": None}, "frame sizes of features and encoder are 40 and 20"),
        ({"labels": [*LETTERS]}, "labels is a list"),
    ],
)
def test_what_cannot_be_carried_over_is_named_and_nothing_is_written(parts, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        save_run(tmp_path / "run", **parts | changes)
    assert not (tmp_path / "run").exists()


def test_a_module_that_was_changed_after_it_was_built_is_refused(parts, tmp_path):
    parts["encoder"].transformer.encoder.layers.append(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"the model has in excess encoder.transformer.encoder.layers.4"):
        save_run(tmp_path / "run", **parts)
    assert not (tmp_path / "run").exists()
