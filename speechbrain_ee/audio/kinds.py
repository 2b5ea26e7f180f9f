# SPDX-License-Identifier: Apache-2.0
"""Files of kinds that are not read: what each one is, and what to do with it."""

import shlex
from pathlib import Path

from speechbrain_ee.files import printable

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
    (0, b"version https://git-lfs"): "is a pointer of Git LFS, not the audio: run `git lfs pull`",
    (0, b"MThd"): "is MIDI, which holds notes and no sound",
    (0, b"\x89PNG"): "is a picture, not audio: give the right file",
    (0, b"\xff\xd8\xff"): "is a picture, not audio: give the right file",
    (0, b"GIF8"): "is a picture, not audio: give the right file",
    (8, b"WEBP"): "is a picture, not audio: give the right file",
    (0, b"%PDF"): "is a PDF document, not audio: give the right file",
}


def why_not_read(path: str | Path, head: bytes) -> str | None:
    """Say what is wrong with a file by its first bytes; None where nothing is known against it.

    Arguments
    ---------
    path : str | Path
        For the example of how to convert it, and for the suffix of files without header.
    head : bytes
        Its first bytes, 512 are enough.

    Example
    -------
    >>> why_not_read("memo.m4a", bytes(4) + b"ftypM4A ")
    'is MPEG-4 (M4A, MP4: AAC), which is not read here: convert it, e.g. ffmpeg -i memo.m4a memo.wav'
    """
    if not head:
        return "is empty (0 bytes): leave it out"
    for (place, magic), what in OTHER.items():
        if head[place:].startswith(magic):
            return what
    for (place, magic), what in SOUND.items():
        if head[place:].startswith(magic):
            return f"{what}, which is not read here: {convert(path)}"
    if head.startswith(ARCHIVES):
        return "is an archive or compressed: unpack it"
    if head[0] == 0xFF and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return f"is AAC, which is not read here: {convert(path)}"
    if not any(head):
        return "begins with zeros where a header should be: fetch it again, or leave it out"
    if head.startswith(KNOWN):
        return None
    if Path(path).suffix.lower() in RAW_SUFFIXES:
        return f"has no header that says what its samples are: {convert(path, '-f s16le -ar 16000 -ac 1 ')}"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() in (b"<!doc", b"<html"):
        return "is a web page, not audio: the download failed, fetch it again"
    return "is text, not audio: give the right file" if _is_text(head) else None


def unknown(path: str | Path) -> str:
    """What to say where no decoder knows the bytes."""
    return (
        "is no audio of a kind that is read here (wav, flac, ogg, opus, mp3, aiff, au, caf, w64, sphere): "
        f"{convert(path)}; if it has no header, say what its samples are, e.g. -f s16le -ar 16000 before -i"
    )


def convert(path: str | Path, options: str = "") -> str:
    """How to make a file that is read."""
    name = printable(Path(path).name)
    return f"convert it, e.g. ffmpeg {options}-i {shlex.quote(name)} {shlex.quote(Path(name).stem + '.wav')}"


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; the last character may be cut."""
    text = head.decode("utf-8", "ignore")
    is_whole = len(text.encode()) >= len(head) - 3
    return is_whole and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
