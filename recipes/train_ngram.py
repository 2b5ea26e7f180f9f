#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Estimate an n-gram language model of words, for ``--decoding beam`` or ``lexicon`` with ``--lm FILE``.

python recipes/train_ngram.py data/synthetic/train.jsonl --out results/lm.arpa
    [--text lines.txt] [--books book.txt] [--words words.txt]

Writes an ARPA file, which KenLM reads. The texts are those of the manifests, the lines of text files (--text), and the
sentences of books (--books), in which line breaks are arbitrary. Texts are reduced to lower-case letters and
apostrophes by the rules for English in speechbrain_ee/text/normalize.py. Words in word lists (--words) are added to the
vocabulary. The estimation (Kneser-Ney) is done by KenLM's lmplz if it is on the PATH, else by IRSTLM (Debian: apt-get
install irstlm).
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ee_runtime.errors import one_line_errors
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.text.normalize import english

IRSTLM = "/usr/lib/irstlm"  # where Debian installs it


def split_book(text: str) -> list[str]:
    r"""Split running text at empty lines and at the ends of sentences.

    >>> split_book("Call me\nIshmael. Some years ago--\n\nWhale!")
    ['Call me Ishmael.', 'Some years ago--', 'Whale!']
    """
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    return [sentence for one in paragraphs for sentence in re.split(r"(?<=[.!?;])[\"')\]]*\s+", one) if sentence]


def sentences(
    manifests: list[Path], texts: list[Path], books: list[Path], words: list[Path], *, repeat: int
) -> list[str]:
    """Return all sentences, those of the manifests ``repeat`` times; each listed word is one sentence."""

    def read(path: Path) -> str:
        return path.read_text("utf-8", errors="replace")

    own = [english(one.text, digits=False) for path in manifests for one in read_manifest(path)]
    lines = [line for path in (*texts, *words) for line in read(path).splitlines()]
    lines += [line for path in books for line in split_book(read(path))]
    found = own * repeat + [english(line, digits=False) for line in lines]
    if not any(found):
        raise ValueError("these files contain no words: give manifests with texts, --text or --books")
    return [line for line in found if line]


def estimate(lines: list[str], order: int, out: Path) -> str:
    """Write the ARPA file with KenLM or IRSTLM; returns the name of the tool."""
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
                "neither KenLM's lmplz nor IRSTLM is installed: build KenLM, or run apt-get install irstlm"
            )
        shutil.move(made, out)
    return name


def _run(command: list[str], **options) -> None:
    options.setdefault("stdout", subprocess.DEVNULL)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise ValueError(f"{Path(command[0]).name} failed: {' '.join(done.stderr.split())[-300:]}")


def main() -> None:
    """Read the texts, estimate the model and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests", type=Path, nargs="*", help="JSON lines or SpeechBrain CSV, with texts")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text files, one sentence per line")
    parser.add_argument("--books", type=Path, nargs="*", default=[], help="books, split into sentences")
    parser.add_argument("--words", type=Path, nargs="*", default=[], help="word lists, one word per line")
    parser.add_argument("--repeat", type=int, default=1, help="count the texts of the manifests this many times")
    parser.add_argument("--order", type=int, default=3, help="n-gram order")
    parser.add_argument("--out", type=Path, required=True, help="ARPA file to write")
    args = parser.parse_args()
    lines = sentences(args.manifests, args.text, args.books, args.words, repeat=args.repeat)
    tool = estimate(lines, args.order, args.out)
    vocabulary = {word for line in lines for word in line.split()}
    print(f"{args.out}: {args.order}-grams of {len(lines)} lines, {len(vocabulary)} words, estimated by {tool}")


if __name__ == "__main__":
    with one_line_errors("train_ngram.py"):
        main()
