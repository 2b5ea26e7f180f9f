# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests: no network, and random seeds that do not depend on the order of the tests."""

import os
import random
import signal

from speechbrain_ee.startup import prepare_process

# Must run before torch is imported. Parallel test processes use one thread each.
prepare_process(threads=1 if "PYTEST_XDIST_WORKER" in os.environ else None)

import numpy as np
import pytest
import torch

# A shell ignores Ctrl-C in background processes; the tests and the processes that they start must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# huggingface_hub reads it at import, so it is set before the tests are collected.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
