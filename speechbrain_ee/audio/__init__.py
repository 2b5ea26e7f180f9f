# SPDX-License-Identifier: Apache-2.0
"""Read audio files of many formats in blocks of one channel at one sample rate, without torch.

* ``reader``: blocks of a file, and its true duration;
* ``recording``: a file that is open, decoded whatever its header says;
* ``source``: from a path to bytes that can be read twice, and what is no file;
* ``kinds``: files of kinds that are not read, by their first bytes;
* ``layout``, ``chunks``, ``flac``, ``ogg``, ``mp3``: how much audio the bytes hold, whatever the header says;
* ``mixing``: several channels to one, and samples that are out of range;
* ``resampling``: any rate to any other;
* ``said``: what a decoder writes to standard error.
"""

from speechbrain_ee.audio.reader import audio_duration, read_blocks
from speechbrain_ee.audio.source import AudioError

__all__ = ["AudioError", "audio_duration", "read_blocks"]
