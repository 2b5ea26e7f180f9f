# SPDX-License-Identifier: Apache-2.0
"""From what an exit outputs to text: greedy, beam search and rescoring, with CTC or attention."""
