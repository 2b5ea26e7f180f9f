# SPDX-License-Identifier: Apache-2.0
"""Manifests: lists of the utterances of a corpus, as JSON lines, SpeechBrain JSON or SpeechBrain CSV.

* ``utterance``: one utterance, checked;
* ``reading``, ``writing``: a manifest as a list of utterances;
* ``json_rows``, ``csv_rows``: the rows of each file format;
* ``text``: the file as text, and the accepted names of keys and columns.
"""

from speechbrain_ee.corpora.manifest.reading import read_manifest
from speechbrain_ee.corpora.manifest.text import ManifestError
from speechbrain_ee.corpora.manifest.utterance import Utterance
from speechbrain_ee.corpora.manifest.writing import digest, write_manifest

__all__ = ["ManifestError", "Utterance", "digest", "read_manifest", "write_manifest"]
