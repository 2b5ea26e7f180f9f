# SPDX-License-Identifier: Apache-2.0
"""Unsupported files: recognised by their first bytes, with what to do about them."""

import shlex
from pathlib import Path

from ee_runtime.files import lfs_hint, printable

HEAD_BYTES = 512
RAW_SUFFIXES = (".raw", ".pcm", ".sln", ".s16", ".sw", ".ul", ".al", ".vox", ".g711", ".g722")
KNOWN = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b".snd", b"dns.", b"caff", b"fLaC", b"OggS", b"ID3")
KNOWN += (b"NIST", b"Crea")

ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd")
SOUND = {
    (0, b"\x1aE\xdf\xa3"): "is Matroska or WebM",
    (0, bytes.fromhex("3026b2758e66cf11")): "is Windows Media (WMA, WMV)",
    (0, b"#!AMR"): "is AMR",
    (0, b"#!SILK"): "is SILK",
    (0, b"\x02#!SILK"): "is SILK",
    (0, b"FLV\x01"): "is Flash video",
    (0, b"\0\0\x01\xba"): "is MPEG video",
    (0, b"MAC "): "is Monkey's Audio",
    (0, b"wvpk"): "is WavPack",
    (0, b"TTA1"): "is True Audio",
    (0, b"DSD "): "is DSD",
    (0, b"FRM8"): "is DSD",
    (0, b"ADIF"): "is AAC",
    (0, b".RMF"): "is RealMedia",
    (0, b"ajkg"): "is Shorten",
    (8, b"AVI "): "is AVI video",
    (28, b"Speex   "): "is Speex",
    (28, b"\x80theora"): "is Theora video",
    (4, b"ftyp3g"): "is 3GPP (AMR or AAC)",
    (4, b"ftyp"): "is MPEG-4 (M4A, MP4: AAC)",
    (4, b"moov"): "is QuickTime",
    (4, b"mdat"): "is QuickTime",
}
OTHER = {
    (0, b"MThd"): "is MIDI, which has notes but no sound: give a recording",
    (0, b"\x89PNG"): "is a picture, not audio: give the right file",
    (0, b"\xff\xd8\xff"): "is a picture, not audio: give the right file",
    (0, b"GIF8"): "is a picture, not audio: give the right file",
    (8, b"WEBP"): "is a picture, not audio: give the right file",
    (0, b"%PDF"): "is a PDF document, not audio: give the right file",
}


def why_unsupported(path: str | Path, head: bytes) -> str | None:
    """Return why a file cannot be read, judging by its first bytes; None if it may be readable.

    Arguments
    ---------
    path : str | Path
        Named in the example of how to convert it; its suffix identifies files without header.
    head : bytes
        Its first 512 bytes.

    Example
    -------
    >>> why_unsupported("memo.m4a", bytes(4) + b"ftypM4A ")
    'is MPEG-4 (M4A, MP4: AAC), which is not supported: convert it, e.g. ffmpeg -i memo.m4a memo.wav'
    """
    if not head:
        return "is empty (0 bytes): leave it out"
    if hint := lfs_hint(head):
        return hint
    for (place, magic), what in OTHER.items():
        if head[place:].startswith(magic):
            return what
    for (place, magic), what in SOUND.items():
        if head[place:].startswith(magic):
            return f"{what}, which is not supported: {conversion_hint(path)}"
    if head.startswith(ARCHIVES):
        return "is an archive or compressed: unpack it"
    if head[0] == 0xFF and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return f"is AAC, which is not supported: {conversion_hint(path)}"
    if not any(head):
        return "begins with zeros instead of a header: fetch it again, or leave it out"
    if head.startswith(KNOWN):
        return None
    if Path(path).suffix.lower() in RAW_SUFFIXES:
        return f"has no header that describes its samples: {conversion_hint(path, '-f s16le -ar 16000 -ac 1 ')}"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() in (b"<!doc", b"<html"):
        return "is a web page, not audio: the download failed, fetch it again"
    return "is text, not audio: give the right file" if _is_text(head) else None


def unknown_format(path: str | Path) -> str:
    """Return the message for a file that no decoder recognises."""
    return (
        "is not audio of a supported format (wav, flac, ogg, opus, mp3, aiff, au, caf, w64, sphere): "
        f"{conversion_hint(path)}; if it has no header, describe its samples, e.g. -f s16le -ar 16000 before -i"
    )


def conversion_hint(path: str | Path, options: str = "") -> str:
    """Return the command that converts a file to WAV."""
    name = printable(Path(path).name)
    converted = Path(name).stem + ("-converted.wav" if name.lower().endswith(".wav") else ".wav")
    return f"convert it, e.g. ffmpeg {options}-i {shlex.quote(name)} {shlex.quote(converted)}"


def _is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters; the last character may be cut."""
    text = head.decode("utf-8", "ignore")
    is_whole = len(text.encode()) >= len(head) - 3
    return is_whole and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
