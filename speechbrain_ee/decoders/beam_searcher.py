# SPDX-License-Identifier: Apache-2.0
"""SpeechBrain's beam search over an attention decoder that caches keys and values.

SpeechBrain's searchers run the whole text through the attention decoder for every token, and depend on the padded
length of the batch. This one keeps keys and values, and an utterance depends on its own length only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from speechbrain.decoders.seq2seq import S2SBeamSearcher

from ee_runtime.special_tokens import BOS_INDEX, EOS_INDEX

if TYPE_CHECKING:
    from speechbrain_ee.lobes.exit_output import ExitOutput


class BeamSearcher(S2SBeamSearcher):
    """SpeechBrain's beam search of one utterance over an attention decoder that caches keys and values."""

    def __init__(self, output: ExitOutput, max_tokens: int, **options):
        super().__init__(BOS_INDEX, EOS_INDEX, 0.0, 1.0, using_eos_threshold=False, **options)
        self.attention_decoder, self.max_tokens = output.attention_decoder, max_tokens
        self.vocab_size = output.log_probs.shape[-1]
        self.start = output.attention_decoder.start(output.state, output.lengths)
        self.steps = 0

    def set_n_out(self):
        """Return the size of the vocabulary."""
        return self.vocab_size

    def change_max_decoding_length(self, min_decode_steps, max_decode_steps):
        """Return the smallest and the largest number of steps."""
        return 0, self.max_tokens + 1  # the last step is for EOS

    def reset_mem(self, batch_size, device):
        """Return the state of all hypotheses before the first token."""
        return self.start.select(torch.zeros(batch_size, dtype=torch.long, device=device))

    def permute_mem(self, memory, index):
        """Return the state of the hypotheses that continue."""
        return memory.select(index)

    def forward_step(self, inp_tokens, memory, enc_states, enc_lens):
        """Read one more token of every hypothesis."""
        self.steps += 1
        memory, log_probs = self.attention_decoder.advance(memory, inp_tokens.unsqueeze(1))
        return log_probs[:, -1], memory, None
