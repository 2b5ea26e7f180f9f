# SPDX-License-Identifier: Apache-2.0
"""The text of a manifest file, and the accepted names of its keys and columns."""

from pathlib import Path

from ee_runtime.files import lfs_hint

# Names that SpeechBrain's recipes and other toolkits use; if a row has several of them, the first one is used.
NAMES = {
    "id": ("id", "ID", "utt_id"),
    "audio_filepath": ("audio_filepath", "wav", "file_path", "path", "audio_path", "audio", "file"),
    "duration": ("duration", "length"),
    "text": ("text", "wrd", "words", "trans", "transcript", "transcription"),
    "speaker": ("speaker", "spk_id", "speaker_id", "spk"),
}
# Keys of a part of a file: in seconds; in samples of the file, as SpeechBrain writes them; and the channel, from 0.
EXCERPT = ("offset", "start", "stop", "channel_selector")
# Keys whose unit depends on the tool. Rows with them are refused, not read as the whole file.
AMBIGUOUS = ("begin", "end", "begin_time", "end_time", "start_time")


class ManifestError(ValueError):
    """A manifest cannot be read; the message is one line that says what to do."""


def read_text(path: Path) -> str:
    r"""Read a manifest with all line ends converted to ``\n``.

    Raises
    ------
    ManifestError
        If it is not a UTF-8 text file; the message says what it is.

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
            f"{path}, line {line_of(text, at)} has a null character: the file is damaged, write it again"
        )
    return text


def line_of(text: str, position: int) -> int:
    """Return the line number, from 1, of a character position."""
    return text.count("\n", 0, position) + 1
