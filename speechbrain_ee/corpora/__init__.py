# SPDX-License-Identifier: Apache-2.0
"""Corpora: manifests, checks, augmentation, and padded batches with integer lengths.

* ``manifest/``: reads and writes lists of utterances;
* ``recordings``: loads audio files, and checks the durations of a manifest;
* ``checks``: refuses or leaves out utterances that cannot be trained on;
* ``augment``: speed perturbation, noise and gain;
* ``dataset``: waveforms, tokens and texts of utterances;
* ``batching``: batches of utterances of similar length;
* ``loader``: data loaders that resume exactly;
* ``preparation``: what the preparation scripts of the recipes have in common;
* ``librispeech``: reads LibriSpeech and mini LibriSpeech;
* ``synthetic/``: the synthetic default corpus.
"""
