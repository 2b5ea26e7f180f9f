# SPDX-License-Identifier: Apache-2.0
"""Transcribe many files: batches by length, several processes or machines, and runs that resume.

* ``transcribe``: a manifest to a file of texts;
* ``batch``: one batch of files;
* ``model_options``: how each process opens the model;
* ``state``: the results of a run, so that it resumes;
* ``engines``: what runs the batches: this process or several;
* ``ray_engine``: what runs the batches: a Ray cluster.
"""
