# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the audio tests."""

import logging

import pytest

from ee_runtime.audio import recording


@pytest.fixture
def notes(caplog):
    recording._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        yield lambda: [one.getMessage() for one in caplog.records if "upsampled" not in one.getMessage()]
