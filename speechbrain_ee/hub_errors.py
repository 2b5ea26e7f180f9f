# SPDX-License-Identifier: Apache-2.0
"""Errors of the HuggingFace Hub in one line that says what to do."""

import errno
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

HTTP_LIBRARIES = ("httpcore", "httpx", "httpx2", "requests", "urllib3")  # of different versions of huggingface_hub
LOG_IN = "log in with hf auth login, or set HF_TOKEN"
MAX_CHARS = 300


class HubError(ValueError):
    """A model cannot be loaded from the Hub or published there; the message says why and what to do."""


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn errors of huggingface_hub, of its HTTP library and of the disk into a :class:`HubError`.

    Arguments
    ---------
    name : str
        ``user/name``, the start of the message.

    Example
    -------
    >>> with hub_errors("user/name"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    speechbrain_ee.hub_errors.HubError: user/name: the disk is full: free some space and run the same command again; \
what was already transferred is kept
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        if (reason := _reason(error)) is None:
            raise
        raise HubError(f"{name}: {reason}") from error


def _reason(error: Exception) -> str | None:
    """Return what happened and what to do; None for errors that have nothing to do with the Hub."""
    from huggingface_hub import constants, errors  # imports an HTTP library, which most commands do not need

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"access must be granted first: ask for it on the page of the model, then {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the Hub has no such revision of it: give a branch, a tag or a commit"
    if status == 401 and "Invalid credentials" in str(error):
        return f"the Hub refuses the token (status 401): {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such model on the Hub, or it is private: check the name; for a private model, {LOG_IN}"
    if status in (401, 403):
        return f"the Hub refuses this (status {status}): use a token with the permission; {LOG_IN}"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"a token is needed: {LOG_IN}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full: free some space and run the same command again; what was already transferred is kept"
    if isinstance(error, errors.LocalEntryNotFoundError) and getattr(error.__cause__, "response", None) is not None:
        return _reason(error.__cause__)  # old versions look for the model in the cache after any answer
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return f"it is not in the cache, and the Hub cannot be reached ({_first_line(error)}): check the connection"
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload in a thread of the client
        return _reason(error.__cause__)
    is_of_client = type(error).__module__.split(".")[0] in (*HTTP_LIBRARIES, "huggingface_hub")
    if is_of_client and not isinstance(error, TypeError | json.JSONDecodeError):
        return f"{_first_line(error)}: check the connection and run the same command again"
    if _is_raised_by_client(error):
        return (
            f"{constants.ENDPOINT} does not answer as the HuggingFace Hub does ({type(error).__name__}: "
            f"{_first_line(error)}): check HF_ENDPOINT, or a proxy in between"
        )
    return None


def _is_raised_by_client(error: Exception) -> bool:
    """Return whether huggingface_hub, or the JSON library for it, failed on an answer: they do not check its shape."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    library = innermost.f_globals.get("__name__", "").split(".")[0]
    is_about_shape = isinstance(error, LookupError | TypeError | ValueError | AttributeError)
    return is_about_shape and library in ("json", "huggingface_hub", *HTTP_LIBRARIES)


def _first_line(error: Exception) -> str:
    """Return the first line of the innermost reason that has a text."""
    while (cause := error.__cause__ or error.__context__) is not None and str(cause):
        if isinstance(cause, StopIteration):  # the position at which JSON is expected
            break
        error = cause
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:MAX_CHARS].rstrip(".: ")
