"""GNU sparse maps: where the stored bytes of a file with holes belong, in the four ways GNU tar wrote them."""

from __future__ import annotations

from typing import Protocol

from runtime.errors import CorruptData

Segments = tuple[tuple[int, int], ...]  # (offset in the file, bytes stored), ascending
_MAX_SEGMENTS = 100_000
_BLOCK = 512


class _Reader(Protocol):
    def read(self, size: int) -> bytes: ...


def old_gnu_map(header: bytes, source: _Reader) -> tuple[Segments, int]:
    """The map of a type S header and its continuation blocks, and the file's real size."""
    pairs = _old_pairs(header[386:482])
    real_size = _octal(header[483:495])
    more = header[482]
    while more:
        block = source.read(_BLOCK)
        if len(block) < _BLOCK:
            raise CorruptData("cannot read tar: it is cut inside a sparse map")
        pairs += _old_pairs(block[:504])
        more = block[504]
        _bound(len(pairs))
    return _check(pairs, real_size), real_size


def pax_map(pax: dict[bytes, bytes], pairs: list[int]) -> Segments:
    """Formats 0.0 (repeated records, in `pairs`) and 0.1 (one list)."""
    numbers = pairs
    if b"GNU.sparse.map" in pax:
        numbers = [_decimal(text) for text in pax[b"GNU.sparse.map"].split(b",") if text]
    return _pair_up(numbers, pax)


def read_map_1_0(source: _Reader, size: int) -> tuple[Segments, int]:
    """Format 1.0: decimal lines at the head of the data; returns the map and the bytes it took."""
    blocks: list[bytes] = []
    lines, needed = 0, 1
    while lines < needed:
        if (len(blocks) + 1) * _BLOCK > size:
            raise CorruptData("cannot read tar: a sparse map runs past its file")
        block = source.read(_BLOCK)
        if len(block) < _BLOCK:
            raise CorruptData("cannot read tar: it is cut inside a sparse map")
        blocks.append(block)
        lines += block.count(b"\n")
        if needed == 1 and lines:
            count = _decimal(b"".join(blocks).split(b"\n", 1)[0])
            _bound(count)
            needed = 1 + 2 * count
    numbers = [_decimal(line) for line in b"".join(blocks).split(b"\n")[1:needed]]
    return _pair_up(numbers, {}), len(blocks) * _BLOCK


def _old_pairs(raw: bytes) -> list[tuple[int, int]]:
    pairs = []
    for at in range(0, len(raw) - 23, 24):
        if raw[at] == 0 and raw[at + 12] == 0:
            break
        pairs.append((_octal(raw[at : at + 12]), _octal(raw[at + 12 : at + 24])))
    return pairs


def _pair_up(numbers: list[int], pax: dict[bytes, bytes]) -> Segments:
    if len(numbers) % 2:
        raise CorruptData("cannot read tar: a sparse map has an odd number of values")
    _bound(len(numbers) // 2)
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    real = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size"))
    return _check(pairs, _decimal(real) if real else None)


def _check(pairs: list[tuple[int, int]], real_size: int | None) -> Segments:
    end = 0
    for offset, length in pairs:
        if offset < end:
            raise CorruptData("cannot read tar: a sparse map overlaps or runs backwards")
        end = offset + length
    if real_size is not None and end > real_size:
        raise CorruptData("cannot read tar: a sparse map runs past the file's size")
    return tuple(pair for pair in pairs if pair[1])


def _bound(count: int) -> None:
    if count > _MAX_SEGMENTS:
        raise CorruptData(f"cannot read tar: a sparse map of more than {_MAX_SEGMENTS} segments")


def _octal(raw: bytes) -> int:
    if raw[0] & 0x80:
        return int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:], "big")
    text = raw.strip(b" \0") or b"0"
    try:
        return int(text, 8) if text.isdigit() else _refuse(raw)
    except ValueError:
        return _refuse(raw)


def _decimal(raw: bytes) -> int:
    return int(raw) if raw.isdigit() and len(raw) <= 19 else _refuse(raw)


def _refuse(raw: bytes) -> int:
    raise CorruptData(f"cannot read tar: sparse map value {raw[:40]!r} is no number")
