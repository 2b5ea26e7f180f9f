# SPDX-License-Identifier: Apache-2.0
"""Ids of the special tokens; every tokenizer of this package uses them.

``BLANK_INDEX`` is the CTC blank (SentencePiece's ``<unk>``, which a recogniser never emits). ``BOS_INDEX`` and
``EOS_INDEX`` mark the beginning and the end of a text for an attention decoder.
"""

BLANK_INDEX, BOS_INDEX, EOS_INDEX = 0, 1, 2
SPECIAL_TOKENS = (BLANK_INDEX, BOS_INDEX, EOS_INDEX)
