# SPDX-License-Identifier: Apache-2.0
"""Names of decodings for the command line and :func:`~speechbrain_ee.decoders.make.make_decoder`."""

DECODINGS = ("greedy", "beam", "lexicon", "rescore", "ctc")
