# SPDX-License-Identifier: Apache-2.0
"""What every form of a manifest shares: the error, the names of its values, and the file as text."""

from pathlib import Path

from speechbrain_ee.files import lfs_hint

# Names that SpeechBrain's recipes and other toolkits use; where a row has several, the first one counts.
NAMES = {
    "id": ("id", "ID", "utt_id"),
    "audio_filepath": ("audio_filepath", "wav", "file_path", "path", "audio_path", "audio", "file"),
    "duration": ("duration", "length"),
    "text": ("text", "wrd", "words", "trans", "transcript", "transcription"),
    "speaker": ("speaker", "spk_id", "speaker_id", "spk"),
}
# Other tools cut an utterance out of a long file this way; reading the whole file would be wrong.
PARTS = ("offset", "start", "stop", "begin", "end", "begin_time", "end_time", "start_time")


class ManifestError(ValueError):
    """A manifest cannot be read; the message is one line that says what to do."""


def read_text(path: Path) -> str:
    r"""Reads a manifest with its line ends brought to ``\n``; says what the file is where it is no UTF-8 text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.jsonl"
    >>> _ = path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    >>> read_text(path)
    'a\nb'
    """
    if path.is_dir():
        raise ManifestError(f"manifest {path} is a folder: give the file")
    if not path.exists():
        raise ManifestError(f"manifest {path} does not exist: check the path")
    if not path.is_file():
        raise ManifestError(f"manifest {path} is a pipe or a device: write it to a file first")
    data = path.read_bytes()
    if hint := lfs_hint(data):
        raise ManifestError(f"manifest {path} {hint}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ManifestError(f"manifest {path} is UTF-16: convert it to UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"manifest {path}, line {line} is not UTF-8 ({error.reason}): convert the file to UTF-8"
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if (at := text.find("\0")) >= 0:
        raise ManifestError(
            f"{path}, line {line_of(text, at)} has a null character: the file is damaged, write it anew"
        )
    return text


def line_of(text: str, position: int) -> int:
    """Number of the line, from 1, in which a character stands."""
    return text.count("\n", 0, position) + 1


def shortened(value: object) -> str:
    """Shows a value of a file, however long it is.

    >>> shortened("9" * 5000)
    "'999999999999999999999999999999999999999999999999999999999999..."
    """
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:61]}..."
