#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Estimate an n-gram language model over words, for `--decoding beam` or `lexicon` with `--lm FILE`.

python recipes/train_ngram.py data/synthetic/train.jsonl --out results/lm.arpa
    [--text lines.txt] [--books book.txt] [--words words.txt]

Texts are those of the manifests, the lines of plain text files and the sentences of books, whose lines break anywhere,
in lower case with nothing but letters and apostrophes. A list of words makes them known where no text has them.
Kneser-Ney is left to KenLM's lmplz where it is on the PATH, else to IRSTLM (Debian: apt-get install irstlm). Writes an
ARPA file, which KenLM reads.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.errors import one_line_errors

IRSTLM = "/usr/lib/irstlm"  # Debian's place


def normalize(text: str) -> str:
    """Keep letters and apostrophes, in lower case.

    >>> normalize("It's 3 o'clock -- Sir!")
    "it's o'clock sir"
    """
    return " ".join(re.sub(r"[^a-z']+", " ", text.lower()).split())


def split_book(text: str) -> list[str]:
    r"""Cut running text at empty lines and where a sentence ends.

    >>> split_book("Call me\nIshmael. Some years ago--\n\nWhale!")
    ['Call me Ishmael.', 'Some years ago--', 'Whale!']
    """
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    return [sentence for one in paragraphs for sentence in re.split(r"(?<=[.!?;])[\"')\]]*\s+", one) if sentence]


def sentences(
    manifests: list[Path], texts: list[Path], books: list[Path], words: list[Path], *, repeat: int
) -> list[str]:
    """All texts, those of the manifests ``repeat`` times; listed words stand alone."""

    def read(path: Path) -> str:
        return path.read_text("utf-8", errors="replace")

    own = [normalize(one.text) for path in manifests for one in read_manifest(path)]
    lines = [line for path in (*texts, *words) for line in read(path).splitlines()]
    lines += [line for path in books for line in split_book(read(path))]
    found = own * repeat + [normalize(line) for line in lines]
    if not any(found):
        raise ValueError("there is not a word in these files: give manifests with texts, --text or --books")
    return [line for line in found if line]


def estimate(lines: list[str], order: int, out: Path) -> str:
    """Write the ARPA file with what is installed; returns its name."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        text, made = Path(folder, "text"), Path(folder, "lm.arpa")
        if lmplz := shutil.which("lmplz"):
            text.write_text("\n".join(lines) + "\n", "utf-8")
            with open(text, "rb") as source, open(made, "wb") as target:
                _run([lmplz, "-o", str(order), "--discount_fallback"], stdin=source, stdout=target)
            name = "KenLM"
        elif Path(IRSTLM, "bin", "build-lm.sh").exists():
            text.write_text("".join(f"<s> {line} </s>\n" for line in lines), "utf-8")
            environment = os.environ | {"IRSTLM": IRSTLM, "PATH": f"{IRSTLM}/bin:{os.environ['PATH']}"}
            options = ["-n", str(order), "-k", "2", "-s", "improved-kneser-ney", "-t", str(Path(folder, "parts"))]
            packed = str(Path(folder, "lm.ilm.gz"))
            _run([f"{IRSTLM}/bin/build-lm.sh", "-i", str(text), "-o", packed, *options], env=environment)
            _run([f"{IRSTLM}/bin/compile-lm", packed, "--text=yes", str(made)], env=environment)
            name = "IRSTLM"
        else:
            raise FileNotFoundError(
                "neither KenLM's lmplz nor IRSTLM is installed: build KenLM, or apt-get install irstlm"
            )
        shutil.move(made, out)
    return name


def _run(command: list[str], **options) -> None:
    options.setdefault("stdout", subprocess.DEVNULL)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise ValueError(f"{Path(command[0]).name} failed: {' '.join(done.stderr.split())[-300:]}")


def main() -> None:
    """Read, estimate, say what was made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests", type=Path, nargs="*", help="JSON lines or SpeechBrain CSV, with texts")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="more sentences, one a line")
    parser.add_argument("--books", type=Path, nargs="*", default=[], help="more text, cut where sentences end")
    parser.add_argument("--words", type=Path, nargs="*", default=[], help="words to be known, one a line")
    parser.add_argument("--repeat", type=int, default=1, help="how often the manifests' texts count beside the others")
    parser.add_argument("--order", type=int, default=3, help="words in an n-gram")
    parser.add_argument("--out", type=Path, required=True, help="ARPA file")
    args = parser.parse_args()
    lines = sentences(args.manifests, args.text, args.books, args.words, repeat=args.repeat)
    tool = estimate(lines, args.order, args.out)
    vocabulary = {word for line in lines for word in line.split()}
    print(f"{args.out}: {args.order}-grams of {len(lines)} lines, {len(vocabulary)} words, estimated by {tool}")


if __name__ == "__main__":
    with one_line_errors("train_ngram.py"):
        main()
