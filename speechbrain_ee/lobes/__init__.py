# SPDX-License-Identifier: Apache-2.0
"""Encoders with exits, their front-ends and their exit heads.

A lobe is an ``nn.Module`` with keyword-only plain arguments, stored in ``config``, from which a saved model is rebuilt.

* ``features``: the interface of features, and log-mel features;
* ``frontend``: convolutional subsampling;
* ``encoder``: the interface of encoders: exit layers, segments, incremental runs;
* ``conformer``: Conformer and Transformer encoders of SpeechBrain;
* ``pretrained/``: wav2vec 2.0, HuBERT, WavLM and Whisper encoders of transformers;
* ``stock``: lobes with exits from the modules of a SpeechBrain recipe, with ``stock_settings`` and ``stock_checks``;
* ``heads``, ``joint_heads``, ``attention_decoder``: CTC heads, with attention decoders in hybrid models;
* ``padding``: integer lengths, masks and padded batches;
* ``cost``: multiply-accumulates and parameters of each exit;
* ``state_dicts``: strict loading of weights.
"""

from speechbrain_ee.lobes.attention_decoder import AttentionDecoder
from speechbrain_ee.lobes.conformer import ConformerExitEncoder, TransformerExitEncoder
from speechbrain_ee.lobes.encoder import EncoderState, ExitEncoder, check_exit_layers
from speechbrain_ee.lobes.features import Features, LogMel
from speechbrain_ee.lobes.frontend import ConvSubsampling
from speechbrain_ee.lobes.heads import CTCHeads, ExitOutput
from speechbrain_ee.lobes.joint_heads import JointHeads
from speechbrain_ee.lobes.pretrained.wav2vec2 import HubertExitEncoder, Wav2Vec2ExitEncoder, WavLMExitEncoder
from speechbrain_ee.lobes.pretrained.waveform import Waveform
from speechbrain_ee.lobes.pretrained.whisper import WhisperExitEncoder
from speechbrain_ee.lobes.pretrained.whisper_features import WhisperLogMel

__all__ = [
    "AttentionDecoder",
    "CTCHeads",
    "ConformerExitEncoder",
    "ConvSubsampling",
    "EncoderState",
    "ExitEncoder",
    "ExitOutput",
    "Features",
    "HubertExitEncoder",
    "JointHeads",
    "LogMel",
    "TransformerExitEncoder",
    "Wav2Vec2ExitEncoder",
    "WavLMExitEncoder",
    "Waveform",
    "WhisperExitEncoder",
    "WhisperLogMel",
    "check_exit_layers",
]
