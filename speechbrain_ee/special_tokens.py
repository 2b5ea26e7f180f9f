# SPDX-License-Identifier: Apache-2.0
"""Ids of the special tokens, which the tokenizer fixes for every part of a model.

``BLANK_INDEX`` is the blank of CTC (SentencePiece's ``<unk>``, which a recogniser never emits). ``BOS_INDEX`` and
``EOS_INDEX`` begin and end the text of an attention decoder.
"""

BLANK_INDEX, BOS_INDEX, EOS_INDEX = 0, 1, 2
SPECIAL_TOKENS = (BLANK_INDEX, BOS_INDEX, EOS_INDEX)
