# SPDX-License-Identifier: Apache-2.0
"""Exit policies under the name of this package; they are part of the runtime, see :mod:`ee_runtime.policies`."""

from ee_runtime.policies import *  # noqa: F403
from ee_runtime.policies import __all__  # noqa: F401
