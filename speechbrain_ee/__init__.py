# SPDX-License-Identifier: Apache-2.0
"""Early-exit speech recognition for SpeechBrain.

Source: Wright et al., "Training dynamic models using early exits for automatic speech recognition on
resource-constrained devices", arXiv 2309.09546.

Where to look:

* ``lobes/``: encoders with exits over stock SpeechBrain layers, front-ends, exit heads
* ``losses.py``: exit weights and the loss summed over exits
* ``brain.py``, ``corpora/``, ``tokenizer.py``: what training needs
* ``command_line.py``, ``settings.py``, ``hparams.py``: a yaml with what the command line changes in it
* ``checkpoints.py``, ``rng.py``, ``state_dicts.py``, ``files.py``: stopping at any moment and going on
* ``scores.py``, ``policies.py``, ``replay.py``: how sure, when to stop, what that would have cost
* ``model.py``, ``inference.py``, ``decoding.py``: a trained model in a folder, and using it
* ``evaluation.py``, ``utterances.py``, ``metrics.py``, ``cost.py``: every exit of a test set
* ``report.py``: tables and plots of it
"""

__version__ = "0.1.0"
