# SPDX-License-Identifier: Apache-2.0
"""Manifests: lists of the utterances of a corpus, as JSON lines, SpeechBrain JSON, SpeechBrain CSV or lhotse cuts.

* ``utterance``: one utterance, checked;
* ``reading``, ``writing``: a manifest as a list of utterances;
* ``json_rows``, ``csv_rows``, ``lhotse_cuts``: the rows of each file format;
* ``excerpts``: the part of a file that a row names;
* ``text``: the file as text, and the accepted names of keys and columns.
"""

from speechbrain_ee.corpora.manifest.reading import manifest_name, read_manifest
from speechbrain_ee.corpora.manifest.text import ManifestError
from speechbrain_ee.corpora.manifest.utterance import Utterance
from speechbrain_ee.corpora.manifest.writing import digest, write_manifest

__all__ = ["ManifestError", "Utterance", "digest", "manifest_name", "read_manifest", "write_manifest"]
