# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while a decoder in C runs."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block.

    A decoder in C calls Python to read bytes. An exception there, such as KeyboardInterrupt, would be printed and
    dropped, and the decoder would take a sound file for one that breaks off.

    Example
    -------
    >>> read = []
    >>> try:
    ...     with interrupts_held():
    ...         signal.raise_signal(signal.SIGINT)
    ...         read.append("all of it")
    ... except KeyboardInterrupt:
    ...     read.append("interrupted")
    >>> read
    ['all of it', 'interrupted']
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # Python runs handlers in the main thread only, and here none
        return
    caught = []
    signal.signal(signal.SIGINT, lambda *arguments: caught.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[0])
