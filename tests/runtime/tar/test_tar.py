"""The reader under fire: any bytes, any mutation of a good archive, any cut: entries or CorruptData, nothing else."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import CorruptData
from runtime.tar import reader as tar
from runtime.tar.stream import Stream
from runtime.tar.writer import END, encode, padding
from tests.runtime.layer import raw
from tests.runtime.layer.corpus import cases


class Bytes(Stream):
    """A source over bytes, in pieces of `step`."""

    def __init__(self, data: bytes, step: int = 700) -> None:
        super().__init__("layer")
        self._file = io.BytesIO(data)
        self._step = step

    def _next(self) -> memoryview | None:
        piece = self._file.read(self._step)
        return memoryview(piece) if piece else None


def entries(data: bytes) -> list[tuple[tar.Entry, bytes]]:
    reader = tar.TarReader(Bytes(data))
    return [(entry, b"".join(reader.data())) for entry in reader]


ARCHIVES = [case.archive for case in cases() if len(case.archive) < 20_000]


@given(st.sampled_from(ARCHIVES), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6))
def test_any_change_of_any_byte(archive: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(archive)
    for position, value in changes:
        if position < len(data):
            data[position] = value
    for start in range(0, min(len(data), 5120), 512):  # with the checksum right, so that the lie is read
        block = data[start : start + 512]
        if len(block) == 512 and block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    try:
        entries(bytes(data))
    except CorruptData as error:
        assert "cannot read" in str(error)


@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    try:
        entries(data)
    except CorruptData:
        pass


@given(st.binary(max_size=600))
def test_any_pax_header(data: bytes) -> None:
    try:
        entries(raw.extension(b"x", data) + raw.file(b"x") + raw.END)
    except CorruptData:
        pass


NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))


@given(
    NAMES,
    st.binary(max_size=2000),
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(-(2**60), 2**60),
    st.dictionaries(st.sampled_from([b"user.a", b"user.b"]), st.binary(max_size=100)),
)
def test_what_we_write_we_read(
    name: bytes, data: bytes, mode: int, uid: int, mtime: int, xattrs: dict[bytes, bytes]
) -> None:
    written = tar.Entry(name, tar.REGULAR, mode, uid, uid, mtime, len(data), xattrs=xattrs, real_size=len(data))
    ((entry, content),) = entries(encode(written) + data + padding(len(data)) + END)
    assert content == data
    assert entry == written


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"1.123456789123", 1_123_456_789),
        (b"2.", 2 * 10**9),
    ],
)
def test_times(text: bytes, nanoseconds: int) -> None:
    assert tar.nanoseconds(text) == nanoseconds


def test_names_in_messages_are_harmless() -> None:
    assert tar.show(b"a\x1b[2J\nb\xff'") == '"a\\x1b[2J\\x0ab\\xff\'"'
    assert len(tar.show(b"x" * 5000)) < 250
