# SPDX-License-Identifier: Apache-2.0
"""The command ``python -m speechbrain_ee.corpora.synthetic``."""

import argparse
import logging
import sys
from pathlib import Path

from speechbrain_ee.corpora.synthetic.corpus import prepare
from speechbrain_ee.corpora.synthetic.espeak import SynthesisError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_ee.corpora.synthetic",
        description="Make the synthetic default corpus with espeak-ng.",
        epilog="example: python -m speechbrain_ee.corpora.synthetic --out data/synthetic",
        allow_abbrev=False,
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--train-hours", type=float, default=1.5, help="hours of training speech")
    parser.add_argument("--num-dev", type=int, default=400, help="utterances of the dev set")
    parser.add_argument("--num-test", type=int, default=400, help="utterances of the test set")
    parser.add_argument("--seed", type=int, default=1234, help="the same seed gives the same samples")
    parser.add_argument("--num-workers", type=int, help="processes (default: one per core)")
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(options.pop("out"), **options)
    except (SynthesisError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: run the same command again to make the corpus", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
