# SPDX-License-Identifier: Apache-2.0
"""Run train.py, for torchrun, until a given step of every process; then kill the process."""

import os
import sys

from recipes.tiny import kill_at

import train

if __name__ == "__main__":
    kill_at(int(os.environ["KILL_AT_EPOCH"]), int(os.environ["KILL_AT_STEP"]))
    train.main(sys.argv[1:])
