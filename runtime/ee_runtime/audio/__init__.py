# SPDX-License-Identifier: Apache-2.0
"""Read audio files of many formats in blocks of one channel at one sample rate, without torch.

* ``reader``: the blocks of a file or of a part of it, and its true duration;
* ``excerpt``: which part of a file is read;
* ``recording``: an open file, decoded to its end even if its header is wrong;
* ``source``: opens a path, or copies a pipe, as bytes that can be read repeatedly;
* ``unsupported``: recognises unsupported files by their first bytes and says what to do;
* ``layout``, ``wav_family``, ``flac``, ``ogg``, ``mp3``: how much audio a file really holds;
* ``mp3_start``: starts the MP3 decoder in the middle of a file;
* ``mixing``: mixes channels down, and handles samples that are out of range;
* ``resampling``: converts between any two sample rates;
* ``stderr_capture``: catches messages that a decoder writes to standard error.
"""

from ee_runtime.audio.excerpt import Excerpt
from ee_runtime.audio.reader import AudioInfo, audio_duration, audio_info, read_blocks
from ee_runtime.audio.source import AudioError

__all__ = ["AudioError", "AudioInfo", "Excerpt", "audio_duration", "audio_info", "read_blocks"]
