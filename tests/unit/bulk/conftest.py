# SPDX-License-Identifier: Apache-2.0
"""A manifest of recordings, an export, and the texts of an uninterrupted run."""

import pytest
from runtime.bench.tiny_export import write_export
from unit.bulk.cases import BATCH_SECONDS, read, write_manifest

from speechbrain_ee.bulk.batch import TranscribeBatch, TranscribeWork
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.bulk.transcribe import transcribe_manifest


@pytest.fixture
def manifest(tmp_path):
    return write_manifest(tmp_path)


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "export")


@pytest.fixture
def work(export):
    return TranscribeWork(ModelOptions(str(export), threads=1))


@pytest.fixture
def transcribe(work, manifest):
    """Transcribe the manifest; keywords replace the arguments."""

    def call(out, **changed):
        arguments = {"work": work, "utterances": read(manifest), "out": out, "batch_seconds": BATCH_SECONDS} | changed
        return transcribe_manifest(**arguments)

    return call


@pytest.fixture
def whole(transcribe, tmp_path):
    """The bytes that an uninterrupted run writes."""
    transcribe(tmp_path / "whole" / "texts.jsonl")
    return (tmp_path / "whole" / "texts.jsonl").read_bytes()


@pytest.fixture
def decoded(monkeypatch):
    """The file names that are decoded from now on, batch by batch."""
    batches, run = [], TranscribeBatch.__call__

    def noting(self, paths):
        batches.append([str(path).rpartition("/")[2] for path in paths])
        return run(self, paths)

    monkeypatch.setattr(TranscribeBatch, "__call__", noting)
    return batches
