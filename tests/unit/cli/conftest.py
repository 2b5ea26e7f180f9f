# SPDX-License-Identifier: Apache-2.0
"""A model folder for the tests of commands."""

import pytest
from unit.models import make_asr

from speechbrain_ee.model.folder import save_model


@pytest.fixture
def model(tmp_path):
    asr = make_asr(tmp_path)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    return tmp_path / "model"
