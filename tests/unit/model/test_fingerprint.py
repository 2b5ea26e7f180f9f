# SPDX-License-Identifier: Apache-2.0
"""Hashes of large files are cached, and a changed file is hashed again."""

import hashlib
import os
import shutil

import pytest

from speechbrain_ee.model import fingerprint as file_digests
from speechbrain_ee.model.fingerprint import SMALL_BYTES, file_digest, fingerprint, memory


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A large file that has not changed recently, and the list of hashed files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_digests, "SETTLED_S", -1.0)
    hashed, hash_file = [], file_digests._hash
    monkeypatch.setattr(file_digests, "_hash", lambda path: hashed.append(path) or hash_file(path))
    path = tmp_path / "weights"
    path.write_bytes(b"a" * SMALL_BYTES)
    return path, hashed


def test_a_large_file_is_hashed_once(counted):
    path, hashed = counted
    assert file_digest(path) == file_digest(path) == hashlib.sha256(b"a" * SMALL_BYTES).digest()
    assert len(hashed) == 1


def test_a_changed_file_of_the_same_size_and_time_is_hashed_again(counted):
    path, _ = counted
    before, times = file_digest(path), os.stat(path)
    path.write_bytes(b"b" * SMALL_BYTES)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_digest(path) == hashlib.sha256(b"b" * SMALL_BYTES).digest() != before
    other = path.with_name("other")
    other.write_bytes(b"c" * SMALL_BYTES)
    shutil.copystat(path, other)
    os.replace(other, path)
    assert file_digest(path) == hashlib.sha256(b"c" * SMALL_BYTES).digest()


def test_what_was_changed_just_now_is_not_remembered(counted, monkeypatch):
    path, hashed = counted
    monkeypatch.setattr(file_digests, "SETTLED_S", 1000.0)
    for _ in range(2):
        file_digest(path)
    assert len(hashed) == 2 and not memory().exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b"\xff"])
def test_a_broken_memory_costs_time_only(counted, content):
    path, _ = counted
    memory().parent.mkdir(parents=True)
    memory().write_bytes(content)
    assert file_digest(path) == hashlib.sha256(b"a" * SMALL_BYTES).digest()


def test_where_nothing_can_be_remembered_it_is_hashed(counted, tmp_path, monkeypatch):
    path, hashed = counted
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert file_digest(path) == file_digest(path)
    assert len(hashed) == 2


def test_a_fingerprint_that_was_recorded_before_stays_valid(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"x" * 3 * 2**20)  # large: its hash is cached
    assert fingerprint([tmp_path / "a", tmp_path / "b"]) == "f924d6ced5328cc1"


def test_the_fingerprint_is_of_all_files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text("same")
    before = fingerprint(paths)
    assert len(before) == 16 and fingerprint(paths) == before
    paths[1].write_text("other")
    assert fingerprint(paths) != before
