# SPDX-License-Identifier: Apache-2.0
"""What runs batches: an engine takes work and tasks, and yields the position and the result of each task."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Protocol

TASKS_PER_PROCESS = 2  # that are sent ahead, so that no process waits


class Work(Protocol):
    """Says how a process is made ready; small, since it is pickled."""

    def open(self) -> Callable[[Any], Any]:
        """Return the function of a task; tasks and results are plain values that JSON can hold."""


Engine = Callable[[Work, Sequence], Iterator[tuple[int, Any]]]


@dataclass(frozen=True)
class Processes:
    """Runs tasks in processes on this machine, each with its own model.

    Results come in the order in which they are done. The processes end if this one is killed.

    Arguments
    ---------
    number : int
        Processes.

    Example
    -------
    >>> from speechbrain_ee.bulk.engines import Processes
    >>> list(Processes(2)(None, []))
    []
    """

    number: int

    def __call__(self, work: Work, tasks: Sequence) -> Iterator[tuple[int, Any]]:
        """Run the tasks.

        Yields
        ------
        tuple
            Position and result of each task.

        Raises
        ------
        ValueError
            If a process was killed.
        """
        context = _Context()
        pool = ProcessPoolExecutor(
            max(1, min(self.number, len(tasks))), mp_context=context, initializer=_prepare, initargs=(work,)
        )
        try:
            yield from self._results(pool, tasks)
        except BrokenProcessPool:
            raise ValueError(
                "one of the processes was killed, perhaps for a lack of memory: run the same command again to resume, "
                "with fewer --processes or a smaller --batch-seconds"
            ) from None
        except BaseException:
            for process in context.started:  # this program would wait until they have started
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _results(self, pool: ProcessPoolExecutor, tasks: Sequence) -> Iterator[tuple[int, Any]]:
        running: dict[Future, int] = {}
        for position, task in enumerate(tasks):
            if len(running) >= TASKS_PER_PROCESS * self.number:
                yield from _done(running)
            running[pool.submit(_run, task)] = position
        while running:
            yield from _done(running)


class _Context(SpawnContext):
    """Starts processes anew, since a fork would copy threads of torch in any state, and remembers them.

    A process that starts prints no traceback if Ctrl-C is pressed: Ctrl-C is blocked until :func:`_prepare`.
    """

    def __init__(self):
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args, **kwargs) -> SpawnProcess:  # noqa: N802, the name of multiprocessing
        """Return a process that has not started."""
        process = _Process(*args, **kwargs)
        self.started.append(process)
        return process


class _Process(SpawnProcess):
    def start(self) -> None:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            super().start()
            return
        resource_tracker.ensure_running()  # its start would end the block
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _done(running: dict[Future, int]) -> Iterator[tuple[int, Any]]:
    """Wait for at least one task, and take those that are done out of ``running``."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


_work: Work | None = None
_function: Callable[[Any], Any] | None = None


def _prepare(work: Work) -> None:
    """Prepare a new process: it ends at once with Ctrl-C, and with the process that started it."""
    global _work
    _work = work
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a background command
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _run(task: Any) -> Any:
    global _function
    if _function is None:  # here, so that an error reaches the process that waits for the result
        _function = _work.open()
    return _function(task)
