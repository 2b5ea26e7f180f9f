# SPDX-License-Identifier: Apache-2.0
"""Sound levels."""

import numpy as np


def level_db(samples: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.asarray(samples, dtype=float) ** 2))
