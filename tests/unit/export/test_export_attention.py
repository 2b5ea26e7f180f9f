# SPDX-License-Identifier: Apache-2.0
"""Law 9 for attention decoders: an export decodes as torch does, at exits with and without a decoder."""

import numpy as np
import pytest
import torch
from unit.models import make_encoder, make_features, make_joint_heads, make_tokenizer

from ee_runtime import EarlyExitRuntime
from ee_runtime.policies import FixedExit
from ee_runtime.special_tokens import BOS_INDEX
from speechbrain_ee.export.export import export_model
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import save_model

pytestmark = pytest.mark.skipif(torch.__version__ < "2.8", reason="export needs torch 2.8 or newer")
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}  # of log-probabilities; both compute in float32, in another order
SECONDS = (1.3, 0.4, 2.1, 0.05)
SAID = [[BOS_INDEX, 4, 5, 6], [BOS_INDEX, 7, 7, 3], [BOS_INDEX, 9, 4, 8], [BOS_INDEX, 3, 10, 5]]


def waveforms():
    sizes = [int(seconds * 16000) for seconds in SECONDS]
    return [np.random.default_rng(size).standard_normal(size, dtype=np.float32) / 10 for size in sizes]


def make_talkative(folder):
    """Save a model with a decoder at two of three exits, whose texts depend on the audio, vary, and end by themselves."""
    tokenizer = make_tokenizer(folder)
    encoder = make_encoder("conformer", num_layers=3, exit_layers=(1, 2, 3))
    heads = make_joint_heads((1, 2, 3), tokenizer.vocab_size, decoders="shared", decoders_at=[1, 3])
    for parameter in heads.heads.parameters():
        parameter.data *= 4
    for decoder in heads.decoders:
        for module in decoder.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
        for layer in decoder.transformer.layers:
            layer.multihead_attn.att.out_proj.weight.data *= 3
        torch.nn.init.normal_(decoder.output.weight)
        decoder.output.bias.data.zero_()
        decoder.output.bias.data[:3] = torch.tensor([-9.0, -9.0, -1.0])  # blank, BOS, EOS
    modules = {"features": make_features("conformer"), "encoder": encoder, "heads": heads}
    save_model(folder / "model", modules, tokenizer=folder / "tokenizer.model")
    return folder / "model"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aed")
    asr = EarlyExitASR.from_hparams(make_talkative(folder))
    export_model(asr, folder / "export")
    return asr, EarlyExitRuntime(folder / "export", threads=1)


def outputs(pair, layer):
    """Return the outputs of both at an exit."""
    found = []
    with torch.inference_mode():
        for model in pair:
            run, _ = model.start(model.make_batch(model.check_waveforms(waveforms())))
            for _ in range(layer):
                run.advance()
            found.append(run.output())
    return found


def test_what_transcribe_prints(pair):
    for layer in (1, 2, 3):
        for a, b in zip(*[m.transcribe_waveforms(waveforms(), policy=FixedExit(layer)) for m in pair]):
            print(
                layer,
                repr(a.text),
                repr(b.text),
                a.macs == b.macs,
                [w.start for w in a.words] == [w.start for w in b.words],
            )
    assert 0
