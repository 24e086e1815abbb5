"""Hostile layers, each with its verdict: refused with an error that says why, or harmlessly contained.

`OUTSIDE` is the absolute path of a directory of the host with a file `secret` in it, as is `../outside` seen from
the layer; whatever an archive does, both must look the same afterwards.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import zstandard

from tests.runtime.layer import raw
from tests.runtime.layer.raw import END, device, directory, extension, fifo, file, hard_link, header, pax, symlink

OUTSIDE = b"/var/tmp/tu-outside-%d" % os.getpid()


@dataclass(frozen=True)
class Refused:
    """The unpacking ends with an error whose text has `saying`."""

    saying: str


@dataclass(frozen=True)
class Contained:
    """It succeeds; `holds` maps a path in the layer to what is there:
    "absent", "dir", "opaque", "fifo", "whiteout", "device", "file", "file:TEXT", "link:TARGET"."""

    holds: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    name: str
    archive: bytes
    verdict: Refused | Contained


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "file": lambda name: file(name),
    "directory": lambda name: directory(name, 0o777),
    "symlink": lambda name: symlink(name, b"/etc/shadow"),
    "hard link": lambda name: file(b"origin") + hard_link(name, b"origin"),
    "device": lambda name: device(name),
    "fifo": lambda name: fifo(name),
    "whiteout": lambda name: file(_in_dir(name, b".wh.")),
    "opaque": lambda name: file(name + b"/.wh..wh..opq", b""),
}
MADE = {
    "file": "file:evil", "directory": "dir", "symlink": "link:/etc/shadow", "hard link": "file:evil",
    "device": "device", "fifo": "fifo", "whiteout": "whiteout", "opaque": "opaque",
}  # fmt: skip


def _in_dir(name: bytes, prefix: bytes) -> bytes:
    folder, slash, base = name.rpartition(b"/")
    return folder + slash + prefix + base


def cases() -> list[Case]:
    """The whole corpus."""
    return [
        *_traversal(), *_absolute(), *_through_links(), *_hard_links(), *_replacing(), *_names(), *_whiteouts(),
        *_xattrs(), *_bombs(), *_truncated(), *_numbers(), *_types(), *_pax(), *_sparse(), *_compressed(),
    ]  # fmt: skip


def _traversal() -> Iterator[Case]:
    for kind, make in KINDS.items():
        for name in (b"../evil", b"../../outside/evil", b"a/../../evil", b"/../evil", b"./.././evil"):
            yield Case(f"traversal: {kind} {name.decode()}", make(name) + END, Refused("leaves the layer"))
        yield Case(f"dots inside: {kind}", make(b"a/b/../evil") + END, Contained({"a/evil": MADE[kind]}))


def _absolute() -> Iterator[Case]:
    for kind, make in KINDS.items():
        yield Case(f"absolute: {kind}", make(b"/evil") + END, Contained({"evil": MADE[kind]}))
        yield Case(
            f"absolute outside: {kind}",
            make(OUTSIDE + b"/evil") + END,
            Contained({OUTSIDE.decode().lstrip("/") + "/evil": MADE[kind]}),
        )


def _through_links() -> Iterator[Case]:
    for kind, make in KINDS.items():
        for label, target in (("absolute", OUTSIDE), ("relative", b"../" * 12 + OUTSIDE.lstrip(b"/"))):
            archive = symlink(b"esc", target) + make(b"esc/evil") + END
            yield Case(f"through {label} link: {kind}", archive, Refused("link to nothing"))
            inside = directory(OUTSIDE) + symlink(b"esc", target) + make(b"esc/evil") + END
            there = OUTSIDE.decode().lstrip("/") + "/evil"
            yield Case(f"through {label} link, target in layer: {kind}", inside, Contained({there: MADE[kind]}))
        chain = symlink(b"a", b"b") + symlink(b"b", b"c") + symlink(b"c", OUTSIDE) + make(b"a/evil") + END
        yield Case(f"through a chain of links: {kind}", chain, Refused("link to nothing"))
        loop = symlink(b"a", b"b") + symlink(b"b", b"a") + make(b"a/evil") + END
        yield Case(f"through a loop of links: {kind}", loop, Refused("symbolic links"))
    magic = symlink(b"p", b"/proc/self/cwd") + file(b"p/evil") + END
    yield Case("through a magic link", magic, Refused("link to nothing"))
    up = symlink(b"d", b"..") + file(b"d/evil") + END
    yield Case("a link to .. stays at the root", up, Contained({"evil": "file:evil"}))
    root = symlink(b"d", b"/") + file(b"d/evil") + END
    yield Case("a link to / is the layer", root, Contained({"evil": "file:evil"}))


def _hard_links() -> Iterator[Case]:
    missing = Refused("is not in the layer")
    yield Case("hard link to the host's passwd", hard_link(b"p", b"/etc/passwd") + END, missing)
    yield Case("hard link out", hard_link(b"p", b"../outside/secret") + END, Refused("leaves the layer"))
    yield Case("hard link out, absolute", hard_link(b"p", OUTSIDE + b"/secret") + END, missing)
    through = symlink(b"esc", OUTSIDE) + hard_link(b"p", b"esc/secret") + END
    yield Case("hard link through a link", through, missing)
    to_link = symlink(b"esc", OUTSIDE + b"/secret") + hard_link(b"p", b"esc") + file(b"p2") + END
    yield Case("hard link to a link is that link", to_link, Contained({"p": f"link:{OUTSIDE.decode()}/secret"}))
    write = symlink(b"s", OUTSIDE + b"/secret") + hard_link(b"p", b"s") + file(b"p") + END
    yield Case("write through a hard link to a link", write, Contained({"p": "file:evil"}))
    yield Case("hard link to itself", hard_link(b"p", b"p") + END, Refused("itself"))
    cycle = hard_link(b"a", b"b") + hard_link(b"b", b"a") + END
    yield Case("hard links in a circle", cycle, missing)
    later = hard_link(b"a", b"b") + file(b"b") + END
    yield Case("hard link before its target", later, Contained({"a": "file:evil", "b": "file:evil"}))
    yield Case("hard link to a directory", directory(b"d") + hard_link(b"a", b"d") + END, Refused("not permitted"))
    yield Case("hard link to the root", hard_link(b"a", b"/") + END, Refused(""))
    yield Case("hard link to nothing", hard_link(b"a", b"") + END, Refused("name"))
    white = file(b".wh.x") + hard_link(b"a", b"x") + END
    yield Case("hard link to a whiteout", white, missing)
    over = file(b"a", b"one") + hard_link(b"b", b"a") + file(b"b", b"two") + END
    yield Case("a file over a hard link leaves the other", over, Contained({"a": "file:one", "b": "file:two"}))
    data = header(b"b", kind=b"1", link=b"a", size=4) + raw.padded(b"data")
    yield Case("a hard link with data", file(b"a") + data + file(b"c") + END, Contained({"c": "file:evil"}))


def _replacing() -> Iterator[Case]:
    secret = OUTSIDE + b"/secret"
    link = symlink(b"x", OUTSIDE)
    yield Case(
        "directory over a link",
        link + directory(b"x", 0o777) + file(b"x/evil") + END,
        Contained({"x/evil": "file:evil"}),
    )
    yield Case("directory over a link, by slash", link + directory(b"x/") + END, Contained({"x": "dir"}))
    yield Case("file over a link", symlink(b"x", secret) + file(b"x") + END, Contained({"x": "file:evil"}))
    yield Case("device over a link", symlink(b"x", secret) + device(b"x") + END, Contained({"x": "device"}))
    yield Case("fifo over a link", symlink(b"x", secret) + fifo(b"x") + END, Contained({"x": "fifo"}))
    yield Case(
        "hard link over a link",
        file(b"o") + symlink(b"x", secret) + hard_link(b"x", b"o") + END,
        Contained({"x": "file:evil"}),
    )
    yield Case("link over a link", symlink(b"x", secret) + symlink(b"x", b"y") + END, Contained({"x": "link:y"}))
    swap = directory(b"d") + file(b"d/one") + symlink(b"d", OUTSIDE) + file(b"d/evil") + END
    yield Case("link over a directory, then into it", swap, Refused("link to nothing"))
    kept = directory(b"d") + file(b"d/one") + file(b"d") + END
    yield Case("file over a full directory", kept, Contained({"d": "file:evil"}))
    late = directory(b"d", 0o700) + symlink(b"d", OUTSIDE) + END
    yield Case("attributes of a directory that became a link", late, Contained({"d": f"link:{OUTSIDE.decode()}"}))
    yield Case("file where a directory is needed", file(b"a") + file(b"a/b") + END, Refused("directory is a file"))
    yield Case("the same file twice", file(b"a", b"one") + file(b"a", b"two") + END, Contained({"a": "file:two"}))
    yield Case(
        "directory over a file", file(b"a") + directory(b"a") + file(b"a/b") + END, Contained({"a/b": "file:evil"})
    )
    deep = directory(b"a/b/c") + file(b"a/b/c/f") + symlink(b"a", b"/") + file(b"a/f") + END
    yield Case("link over a tree", deep, Contained({"f": "file:evil", "a": "link:/"}))


def _names() -> Iterator[Case]:
    both = file(b"README", b"1") + file(b"readme", b"2") + END
    yield Case("names differing in case", both, Contained({"README": "file:1", "readme": "file:2"}))
    composed = "é".encode() + b"", b"e\xcc\x81"
    forms = file(composed[0], b"1") + file(composed[1], b"2") + END
    yield Case("one name in two Unicode forms", forms, Contained({"\u00e9": "file:1", "e\u0301": "file:2"}))
    yield Case("invalid UTF-8", file(b"\xff\xfe") + END, Contained({"\udcff\udcfe": "file"}))
    yield Case("a newline and an escape code", file(b"a\n\x1b[2J") + END, Contained({"a\n\x1b[2J": "file"}))
    yield Case("a backslash is no separator", file(b"..\\evil") + END, Contained({"..\\evil": "file"}))
    yield Case("full-width dots are no dots", file("．．/evil".encode()) + END, Contained({"．．/evil": "file"}))
    yield Case("an empty name", file(b"") + END, Refused("name"))
    yield Case("a file called .", file(b".") + END, Refused("root is not a directory"))
    yield Case("a file called /", header(b"/", kind=b"6") + END, Refused("root is not a directory"))
    yield Case("the root as a link", symlink(b"./", OUTSIDE) + END, Refused("root is not a directory"))
    yield Case(
        "a component of 255 bytes", pax((b"path", b"n" * 255)) + file(b"x") + END, Contained({"n" * 255: "file"})
    )
    yield Case("a component of 256 bytes", pax((b"path", b"n" * 256)) + file(b"x") + END, Refused("too long"))
    yield Case("a path of 5,000 bytes", pax((b"path", b"n/" * 2500)) + directory(b"x") + END, Refused("name"))
    yield Case("a NUL in a pax path", pax((b"path", b"a\0b")) + file(b"x") + END, Refused("name"))
    yield Case("a NUL in a link target", pax((b"linkpath", b"a\0b")) + symlink(b"x", b"y") + END, Refused(""))
    yield Case(
        "a link target of 5,000 bytes", pax((b"linkpath", b"t" * 5000)) + symlink(b"x", b"y") + END, Refused("too long")
    )
    yield Case("a link to nothing", symlink(b"x", b"") + END, Refused("link to nothing"))
    yield Case("a prefix that climbs", header(b"evil", prefix=b"../..") + END, Refused("leaves the layer"))
    yield Case(
        "a GNU long name that climbs",
        extension(b"L", b"../" * 50 + b"evil\0") + file(b"x") + END,
        Refused("leaves the layer"),
    )
    yield Case(
        "a GNU long link out",
        extension(b"K", b"../" * 50 + b"x\0") + hard_link(b"x", b"y") + END,
        Refused("leaves the layer"),
    )
    yield Case("many slashes", file(b"//a///b") + END, Contained({"a/b": "file:evil"}))


def _whiteouts() -> Iterator[Case]:
    yield Case("whiteout of nothing", file(b".wh.") + END, Refused("whiteout of nothing"))
    yield Case("whiteout of .", file(b"d/.wh..") + END, Refused("whiteout of nothing"))
    yield Case("whiteout of ..", file(b"d/.wh...") + END, Refused("whiteout of nothing"))
    yield Case("whiteout as a link", symlink(b".wh.x", OUTSIDE) + END, Contained({"x": "whiteout", ".wh.x": "absent"}))
    yield Case("whiteout as a directory", directory(b".wh.x") + END, Contained({"x": "whiteout"}))
    yield Case("whiteout as a hard link", hard_link(b".wh.x", b"/etc/passwd") + END, Contained({"x": "whiteout"}))
    yield Case("whiteout after its file", file(b"x") + file(b".wh.x") + END, Contained({"x": "file:evil"}))
    yield Case("whiteout before its file", file(b".wh.x") + file(b"x") + END, Contained({"x": "file:evil"}))
    yield Case("whiteout after its directory", directory(b"x") + file(b".wh.x") + END, Contained({"x": "opaque"}))
    yield Case("whiteout before its directory", file(b".wh.x") + directory(b"x") + END, Contained({"x": "opaque"}))
    yield Case(
        "whiteout before a file in it", file(b".wh.x") + file(b"x/y") + END, Contained({"x": "opaque", "x/y": "file"})
    )
    yield Case("whiteout twice", file(b".wh.x") + file(b".wh.x") + END, Contained({"x": "whiteout"}))
    sealed = file(b"x/.wh.a") + file(b"x/d/.wh.b") + file(b"x/.wh..wh..opq") + END
    yield Case(
        "whiteouts in an opaque directory", sealed, Contained({"x": "opaque", "x/a": "absent", "x/d/b": "absent"})
    )
    yield Case("opaque root", file(b".wh..wh..opq") + END, Contained({"": "opaque"}))
    yield Case("opaque over a file", file(b"x") + file(b"x/.wh..wh..opq") + END, Refused("directory is a file"))
    yield Case(
        "opaque through a link out", symlink(b"x", OUTSIDE) + file(b"x/.wh..wh..opq") + END, Refused("link to nothing")
    )
    yield Case(
        "aufs bookkeeping", file(b".wh..wh.plnk") + file(b".wh..wh.aufs") + END, Contained({".wh..wh.plnk": "absent"})
    )
    yield Case("a 0/0 device is a whiteout", device(b"x", 0, 0) + END, Contained({"x": "whiteout"}))
    yield Case("whiteout of a whiteout", file(b".wh..wh.x") + END, Contained({".wh.x": "absent"}))


_DROPPED = (
    b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"trusted.overlay.metacopy", b"user.overlay.opaque",
    b"user.overlay.whiteout", b"trusted.anything", b"security.selinux", b"security.ima", b"security.evm",
)  # fmt: skip


def _xattrs() -> Iterator[Case]:
    def with_xattr(*pairs: tuple[bytes, bytes], on: bytes = b"") -> bytes:
        named = [(b"SCHILY.xattr." + key, value) for key, value in pairs]
        return pax(*named) + (on or file(b"x")) + END

    for key in _DROPPED:
        yield Case(f"xattr {key.decode()} dropped", with_xattr((key, b"y")), Contained({"x": "plain"}))
        there = with_xattr((key, b"y"), on=directory(b"x"))
        yield Case(f"xattr {key.decode()} dropped on a directory", there, Contained({"x": "plain"}))
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    yield Case("file capability kept", with_xattr((b"security.capability", capability)), Contained({"x": "capable"}))
    bad = with_xattr((b"security.capability", b"nonsense"))
    yield Case("malformed file capability", bad, Refused("Invalid argument"))
    yield Case(
        "xattr on a link",
        with_xattr((b"user.a", b"b"), on=symlink(b"x", OUTSIDE)),
        Contained({"x": f"link:{OUTSIDE.decode()}"}),
    )
    yield Case("xattr on a whiteout", with_xattr((b"user.a", b"b"), on=file(b".wh.x")), Contained({"x": "whiteout"}))
    yield Case("xattrs of 100 KiB", with_xattr((b"user.a", b"b" * 100_000)), Refused("extended attributes"))
    yield Case("an xattr without a name", with_xattr((b"", b"y")), Contained({"x": "plain"}))
    yield Case("an xattr without a namespace", with_xattr((b"nonsense", b"y")), Contained({"x": "plain"}))


def _bombs() -> Iterator[Case]:
    """Against the limits `tests` set: 3 MiB, 200 entries, 32 deep."""
    yield Case("a file beyond the limit", header(b"x", size=1 << 40) + END, Refused("bytes (limit"))
    yield Case(
        "too many bytes", b"".join(file(b"f%d" % i, bytes(100_000)) for i in range(40)) + END, Refused("unpacked")
    )
    yield Case("too many entries", b"".join(fifo(b"f%d" % i) for i in range(201)) + END, Refused("entries"))
    yield Case("too deep", pax((b"path", b"d/" * 33)) + directory(b"x") + END, Refused("deep"))
    yield Case("a pax header of 2 MiB", header(b"x", kind=b"x", size=2 << 20) + END, Refused("extension header"))
    yield Case("a long name of 1 MiB", header(b"x", kind=b"L", size=1 << 20) + END, Refused("extension header"))
    yield Case(
        "extension headers without end", pax((b"a", b"b" * 9000)) * 200 + file(b"x") + END, Refused("extension header")
    )
    yield Case(
        "3,000 empty extension headers", extension(b"x", b"") * 3000 + file(b"x") + END, Refused("extension header")
    )
    yield Case("a gzip bomb", gzip.compress(bytes(8 << 20)), Refused("unpacked"))
    yield Case("a zstd bomb", zstandard.compress(bytes(8 << 20)), Refused("unpacked"))


def _truncated() -> Iterator[Case]:
    whole = directory(b"d") + file(b"d/x", b"y" * 700) + END
    for cut, label in (
        (100, "in the first header"),
        (700, "in the second header"),
        (1100, "in data"),
        (1720, "in padding"),
    ):
        yield Case(f"cut {label}", whole[:cut], Refused("cut"))
    yield Case("cut after an entry", whole[: 512 * 4], Contained({"d/x": "file"}))
    yield Case("cut between the zero blocks", whole[: 512 * 5], Contained({"d/x": "file"}))
    yield Case("data after a zero block", directory(b"d") + bytes(512) + file(b"x") + END, Refused("zero block"))
    yield Case("an empty archive", b"", Contained({}))
    yield Case("nothing but zero blocks", END, Contained({}))
    yield Case("anything after the end is ignored", file(b"x") + END + b"rubbish", Contained({"x": "file:evil"}))
    yield Case("cut in a pax header", pax((b"path", b"p" * 600))[:800], Refused("cut"))
    yield Case("cut after a pax header", pax((b"path", b"p")), Refused("ends after"))
    yield Case("cut in a long name", extension(b"L", b"p" * 600)[:800], Refused("cut"))
    packed = gzip.compress(whole)
    yield Case("gzip cut in its header", packed[:6], Refused("cut short"))
    yield Case("gzip cut in its data", packed[:-12], Refused("gzip"))
    yield Case("gzip cut in its trailer", packed[:-4], Refused("gzip"))
    wrong = packed[:-8] + b"\0\0\0\0" + packed[-4:]
    yield Case("gzip with a wrong checksum", wrong, Refused("gzip"))
    frame = zstandard.compress(file(b"x", os.urandom(4000)) + END)
    yield Case("zstd cut in its frame", frame[: len(frame) // 2], Refused("zstd"))
    yield Case("rubbish after gzip", packed + b"rubbish rubbish", Refused("gzip"))
    yield Case("a single random block", bytes(range(256)) * 2, Refused("checksum"))


def _numbers() -> Iterator[Case]:
    big = b"\x80" + b"\xff" * 11
    yield Case("base-256 size without end", header(b"x", size=big) + END, Refused("out of range"))
    yield Case("negative size", header(b"x", size=b"\xff" * 12) + END, Refused("out of range"))
    yield Case("size with a sign", header(b"x", size=b"-0000000001\0") + END, Refused("no number"))
    yield Case("size with an underscore", header(b"x", size=b"0000000_001\0") + END, Refused("no number"))
    yield Case("size in decimal digits", header(b"x", size=b"00000000009\0") + END, Refused("octal"))
    yield Case("wrong checksum", header(b"x", checksum=b"000001\0 ") + END, Refused("checksum"))
    yield Case("uid of 2^32-1", header(b"x", uid=b"\x80\0\0\0\xff\xff\xff\xff") + END, Refused("owner"))
    yield Case("uid of 2^32", header(b"x", uid=b"\x80\0\0\1\0\0\0\0") + END, Refused("owner"))
    yield Case("negative uid", header(b"x", uid=b"\xff" * 8) + END, Refused("out of range"))
    yield Case("uid 4,000,000,000 by pax", pax((b"uid", b"4000000000")) + file(b"x") + END, Contained({"x": "file"}))
    yield Case("uid by pax beyond 64 bits", pax((b"uid", b"9" * 25)) + file(b"x") + END, Refused("no number"))
    yield Case(
        "mtime far in the future", header(b"x", mtime=b"\x80" + b"\0" * 4 + b"\x3f" * 7) + END, Contained({"x": "file"})
    )
    yield Case("mtime before 1970", pax((b"mtime", b"-100.5")) + file(b"x") + END, Contained({"x": "file"}))
    yield Case("mtime with 40 digits", pax((b"mtime", b"1" * 40)) + file(b"x") + END, Refused("out of range"))
    yield Case("mtime that is no number", pax((b"mtime", b"1.2.3")) + file(b"x") + END, Refused("no number"))
    yield Case(
        "a device number beyond the kernel's",
        header(b"x", kind=b"3", major=b"7777777\0", minor=b"7777777\0") + END,
        Contained({"x": "device"}),
    )
    yield Case("mode with type bits", header(b"x", mode=b"120777\0\0") + END, Contained({"x": "file"}))
    yield Case(
        "a directory with a size",
        directory(b"d", size=4096) + file(b"x") + END,
        Contained({"d": "dir", "x": "file:evil"}),
    )
    yield Case("a link with a size", symlink(b"l", b"t", size=4096) + file(b"x") + END, Contained({"x": "file:evil"}))


def _types() -> Iterator[Case]:
    for kind in (b"V", b"M", b"N", b"A", b"Z", b"D", b"9", b"\xff", b" "):
        yield Case(f"unknown type {kind!r}", header(b"x", kind=kind) + END, Refused("unknown type"))
    yield Case("contiguous file", file(b"x", kind=b"7") + END, Contained({"x": "file:evil"}))
    yield Case("file of before POSIX", file(b"x", kind=b"\0", magic=b"") + END, Contained({"x": "file:evil"}))
    yield Case("directory of before POSIX", header(b"d/", kind=b"\0", magic=b"") + END, Contained({"d": "dir"}))
    yield Case("block device", device(b"sda", 8, 0, b"4") + END, Contained({"sda": "device"}))
    yield Case("setuid file of root", file(b"x", mode=0o6755) + END, Contained({"x": "mode:6755"}))
    yield Case(
        "setuid file of another", file(b"x", mode=0o6755, uid=1000, gid=1000) + END, Contained({"x": "mode:6755"})
    )
    sgid = directory(b"d", 0o2777, gid=50) + file(b"d/x") + END
    yield Case("a set-group-id directory gives nothing on", sgid, Contained({"d": "mode:2777", "d/x": "owner:0:0"}))
    nobody = directory(b"d", 0) + file(b"d/x") + END
    yield Case("a directory nobody may enter", nobody, Contained({"d": "mode:0", "d/x": "file:evil"}))


_BAD_RECORDS = {
    "zero": b"0 a=b\n",
    "too short": b"4 a=b\n",
    "too long": b"60 a=b\n",
    "no number": b"x a=b\n",
    "missing": b"a=b\n",
    "huge": b"99999999999999999999 a=b\n",
    "signed": b"-6 a=b\n",
    "without newline": b"5 a=b",
    "without key": b"5 =b\n",
    "without equals": b"5 ab\n",
}


def _pax() -> Iterator[Case]:
    yield Case("pax path that climbs", pax((b"path", b"../evil")) + file(b"x") + END, Refused("leaves the layer"))
    yield Case("pax path empty", pax((b"path", b"")) + file(b"x") + END, Refused("name"))
    yield Case(
        "the last pax path counts",
        pax((b"path", b"a"), (b"path", b"b")) + file(b"x") + END,
        Contained({"b": "file:evil"}),
    )
    yield Case(
        "global path is ignored",
        extension(b"g", raw.record(b"path", b"../evil")) + file(b"x") + END,
        Contained({"x": "file:evil"}),
    )
    smaller = pax((b"size", b"4")) + header(b"x", size=1 << 30) + raw.padded(b"evil") + END
    yield Case("pax size over the header's", smaller, Contained({"x": "file:evil"}))
    yield Case("pax size negative", pax((b"size", b"-4")) + file(b"x") + END, Refused("no number"))
    for label, data in _BAD_RECORDS.items():
        yield Case(
            f"pax record with a length {label}", extension(b"x", data) + file(b"x") + END, Refused("cannot read tar")
        )


def _sparse() -> Iterator[Case]:
    def gnu(offset: int, length: int, real: int, data: bytes = b"data", more: int = 0) -> bytes:
        pair = b"%011o\0%011o\0" % (offset, length)
        place = {386: pair, 482: bytes((more,)), 483: b"%011o\0" % real}
        return header(b"x", kind=b"S", size=len(data), magic=b"ustar  \0", at=place) + raw.padded(data) + END

    yield Case("sparse file", gnu(4096, 4, 8192), Contained({"x": "size:8192"}))
    yield Case("sparse file beyond the limit", gnu(4096, 4, 1 << 32), Refused("bytes (limit"))
    yield Case("sparse segment past its file", gnu(4096, 4, 100), Refused("past the file"))
    yield Case("sparse segment longer than its data", gnu(0, 400, 8192), Refused("does not fit"))
    yield Case("sparse map that goes on into data", gnu(0, 4, 8192, more=1), Refused("sparse map value"))
    yield Case(
        "sparse map without end",
        header(b"x", kind=b"S", size=0, at={482: b"\1"}) + (bytes(504) + b"\1" + bytes(7)) * 7000 + END,
        Refused("unpacked"),
    )

    def pax10(body: bytes, real: bytes = b"8192") -> bytes:
        named = pax(
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"x"),
            (b"GNU.sparse.realsize", real),
        )
        return named + file(b"GNUSparseFile.0/x", body) + END

    good = raw.padded(b"1\n4096\n4\n") + b"data"
    yield Case("sparse 1.0", pax10(good), Contained({"x": "size:8192"}))
    yield Case("sparse 1.0 with a count beyond all", pax10(raw.padded(b"99999999999\n")), Refused("segments"))
    yield Case("sparse 1.0 map past its file", pax10(raw.padded(b"100\n1\n1\n")), Refused("past its file"))
    yield Case("sparse 1.0 overlapping", pax10(raw.padded(b"2\n4\n4\n6\n4\n") + b"datadata"), Refused("overlaps"))
    yield Case("sparse 1.0 no number", pax10(raw.padded(b"1\nx\n4\n") + b"data"), Refused("no number"))
    yield Case("sparse 1.0 name that climbs", pax10(good).replace(b"name=x", b"name=/"), Refused("does not fit"))
    odd = pax((b"GNU.sparse.map", b"0,4,8"), (b"GNU.sparse.size", b"8192")) + file(b"x", b"data") + END
    yield Case("sparse 0.1 with an odd map", odd, Refused("odd"))
    fits = pax((b"GNU.sparse.map", b"4096,4"), (b"GNU.sparse.size", b"8192")) + file(b"x", b"data") + END
    yield Case("sparse 0.1", fits, Contained({"x": "size:8192"}))
    zero = (
        pax((b"GNU.sparse.offset", b"8"), (b"GNU.sparse.numbytes", b"4"), (b"GNU.sparse.size", b"64"))
        + file(b"x", b"data")
        + END
    )
    yield Case("sparse 0.0", zero, Contained({"x": "size:64"}))


def _compressed() -> Iterator[Case]:
    whole = file(b"x") + END
    members = gzip.compress(whole[:300]) + gzip.compress(b"") + gzip.compress(whole[300:])
    yield Case("gzip in several members", members, Contained({"x": "file:evil"}))
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
    frames = skippable + zstandard.compress(whole[:300]) + skippable + zstandard.compress(whole[300:])
    yield Case("zstd in several frames", frames, Contained({"x": "file:evil"}))
    yield Case("gzip with padding", gzip.compress(whole) + bytes(64), Contained({"x": "file:evil"}))
    last_raw_block = (len(whole) << 3 | 1).to_bytes(3, "little")  # by hand: the library takes 2 GiB to write one
    window = b"\x28\xb5\x2f\xfd\x00" + bytes([31 - 10 << 3]) + last_raw_block + whole
    yield Case("zstd with a window of 2 GiB", window, Refused("zstd"))
    yield Case("gzip in gzip is rubbish", gzip.compress(gzip.compress(whole)), Refused("cannot read tar"))
    yield Case("bzip2 is not known", b"BZh91AY&SY" + bytes(600), Refused("cannot read tar"))
