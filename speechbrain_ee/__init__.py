# SPDX-License-Identifier: Apache-2.0
"""Early-exit speech recognition for SpeechBrain.

Source: Wright et al., "Training dynamic models using early exits for automatic speech recognition on
resource-constrained devices", arXiv 2309.09546.

Packages, from top to bottom. Each imports only what stands below it (``make lint`` checks this):

* ``cli``: the command ``speechbrain-ee``
* ``evaluation``: one pass over a test set, tables, plots, the report page
* ``inference``: the class that a user loads, and the loop that stops each utterance early
* ``training``: the Brain, losses, schedules, checkpoints; ``calibration``: thresholds, promises, confidence
* ``model``: a trained model as files
* ``corpora``: from manifests to batches; ``decoders``: from an exit's output to text
* ``text``: tokens, word spans, error rates, language models
* ``replay``: policies over cached scores (NumPy, no torch)
* ``lobes``: encoders with exits, exit heads, their cost; ``policies``: when to stop (standard library alone);
  ``audio``: any audio file as samples (no torch)

What users import most is available here under its own name, and loaded when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "EarlyExitASR": "speechbrain_ee.inference.asr",
    "ConformerExitEncoder": "speechbrain_ee.lobes",
    "TransformerExitEncoder": "speechbrain_ee.lobes",
    "Wav2Vec2ExitEncoder": "speechbrain_ee.lobes",
    "HubertExitEncoder": "speechbrain_ee.lobes",
    "WavLMExitEncoder": "speechbrain_ee.lobes",
    "WhisperExitEncoder": "speechbrain_ee.lobes",
    "CTCHeads": "speechbrain_ee.lobes",
    "JointHeads": "speechbrain_ee.lobes",
    "LogMel": "speechbrain_ee.lobes",
    "Waveform": "speechbrain_ee.lobes",
    "WhisperLogMel": "speechbrain_ee.lobes",
    "save_run": "speechbrain_ee.model.foreign",
    "ExitCTCLoss": "speechbrain_ee.training.losses",
    "ExitJointLoss": "speechbrain_ee.training.losses",
    "Capped": "ee_runtime.policies",
    "FixedExit": "ee_runtime.policies",
    "LearnedThreshold": "ee_runtime.policies",
    "Patience": "ee_runtime.policies",
    "RunningBudget": "ee_runtime.policies",
    "TokenBucket": "ee_runtime.policies",
    "ScoreThreshold": "ee_runtime.policies",
}
__all__ = [*_EXPORTS]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
