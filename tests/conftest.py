# SPDX-License-Identifier: Apache-2.0
"""What every test shares: no network, and the same random numbers in any order of the tests."""

import os
import random

from speechbrain_ee.startup import prepare_process

# Before torch is imported; processes that share the tests have one thread each.
prepare_process(threads=1 if "PYTEST_XDIST_WORKER" in os.environ else None)

import numpy as np
import pytest
import torch

# Read when huggingface_hub is imported, so set before the tests are collected.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
