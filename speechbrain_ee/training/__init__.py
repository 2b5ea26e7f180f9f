# SPDX-License-Identifier: Apache-2.0
"""Train a model with exits: the Brain, losses, schedules, checkpoints and warm starts."""
