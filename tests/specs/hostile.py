"""Documents that strangers might send: each must be refused, at a line, cheaply.

Run as a program it loads them and prints what each cost, so that a test can look at the growth of a
process of its own.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
_MAP_BOMB = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}\n" for n in range(1, 40))
_WEB = "services:\n  web:\n    image: i\n"


def _yaml(text: str) -> tuple[str, bytes]:
    return "h.yaml", text.encode()


def _toml(text: str) -> tuple[str, bytes]:
    return "h.toml", text.encode()


CASES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "list bomb": lambda: _yaml(_BOMB),
    "mapping bomb": lambda: _yaml(_MAP_BOMB),
    "text bomb": lambda: _yaml(f"a: &a {'x' * 100_000}\nb: [{','.join(['*a'] * 1000)}]"),
    "merge bomb": lambda: _yaml(
        "a: &a {"
        + ",".join(f"k{n}: 1" for n in range(1000))
        + "}\n"
        + "".join(f"m{n}: {{<<: *a}}\n" for n in range(999))
    ),
    "alias of itself": lambda: _yaml("a: &a [*a]"),
    "merge of itself": lambda: _yaml("a: &a {<<: *a}"),
    "deep flow lists": lambda: _yaml("[" * 500_000),
    "deep flow mappings": lambda: _yaml("{a: " * 200_000),
    "deep blocks": lambda: _yaml("\n".join(" " * n + "a:" for n in range(1000))),
    "deep dashes": lambda: _yaml("- " * 100_000),
    "chain of anchors": lambda: _yaml("a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000))),
    "many values": lambda: _yaml("a: [" + "1," * 500_000 + "]"),
    "many keys": lambda: _yaml("services: {" + ",".join(f"s{n}: " for n in range(90_000)) + "}"),
    "many unknown keys": lambda: _yaml(_WEB + "".join(f"    imag{n}: x\n" for n in range(40_000))),
    "many wrong services": lambda: _yaml("services:\n" + "".join(f"  s{n}: {{imge: x}}\n" for n in range(12_000))),
    "many services in a circle": lambda: _yaml(
        "services:\n" + "".join(f"  s{n}: {{image: i, depends_on: [s{(n + 1) % 6000}]}}\n" for n in range(6000))
    ),
    "many ports": lambda: _yaml(_WEB + "    ports:\n" + '    - "1-65535"\n' * 40_000),
    "many equal ports": lambda: _yaml(_WEB + "    ports:\n" + '    - "80:80"\n' * 15_000),
    "endless word": lambda: _yaml("a" * 1_000_000),
    "endless quote": lambda: _yaml('services: "' + "a" * 900_000),
    "too large": lambda: _yaml("# " + "x" * 2_000_000),
    "huge number": lambda: _yaml(_WEB + f"    scale: {'9' * 100_000}\n"),
    "huge duration": lambda: _yaml(_WEB + f"    stop_grace_period: {'1h' * 100_000}x\n"),
    "huge size": lambda: _yaml(_WEB + f"    mem_limit: {'9' * 100_000}g\n"),
    "huge range": lambda: _yaml(_WEB + '    ports: ["1-99999999999999999999"]\n'),
    "quotes": lambda: _yaml(_WEB + "    command: '" + "''" * 200_000 + '"' + "'\n"),
    "backslashes": lambda: _yaml(_WEB + "    command: '\"" + "\\\\" * 200_000 + "'\n"),
    "long mount": lambda: _yaml(_WEB + f"    volumes: ['{'a:' * 100_000}']\n"),
    "long host list": lambda: _yaml(_WEB + "    extra_hosts: [" + "'a:b'," * 20_000 + "]\n"),
    "nested variables": lambda: _yaml(_WEB + "    hostname: " + "${A:-" * 10_000 + "x" + "}" * 10_000 + "\n"),
    "unclosed variables": lambda: _yaml(_WEB + "    hostname: " + "${A:-" * 100_000 + "\n"),
    "variables that grow": lambda: _yaml(_WEB + "    hostname: " + "$BIG" * 200_000 + "\n"),
    "extends in a circle": lambda: _yaml(
        "services:\n" + "".join(f"  s{n}: {{extends: s{(n + 1) % 3000}}}\n" for n in range(3000))
    ),
    "extends in a chain": lambda: _yaml(
        "services:\n  s0: {image: i}\n" + "".join(f"  s{n}: {{extends: s{n - 1}}}\n" for n in range(1, 8000))
    ),
    "extends that grow": lambda: _yaml(
        "services:\n  base: {image: i, labels: {"
        + ",".join(f"l{n}: v" for n in range(5000))
        + "}}\n"
        + "".join(f"  s{n}: {{extends: base}}\n" for n in range(5000))
    ),
    "include of itself": lambda: _yaml("include: [h.yaml]\nservices: {}\n"),
    "include of devices": lambda: _yaml("include: [/dev/zero, /dev/stdin, /proc/self/mem, /]\nservices: {}\n"),
    "env file of a device": lambda: _yaml(_WEB + "    env_file: [/dev/zero, /dev/tty]\n"),
    "control characters": lambda: _yaml("a: \x07"),
    "not text": lambda: ("h.yaml", bytes(range(256)) * 100),
    "half a character": lambda: ("h.yaml", _WEB.encode() + b"    hostname: \xc3"),
    "utf-16": lambda: ("h.yaml", "services: [\n".encode("utf-16")),
    "utf-16 cut": lambda: ("h.yaml", "a: 1".encode("utf-16")[:-1]),
    "nul": lambda: _yaml('a: "x\\0"'),
    "key of a mapping": lambda: _yaml("? {a: b}\n: c"),
    "tag": lambda: _yaml("a: !!python/object/apply:os.system [ls]"),
    "toml deep lists": lambda: _toml("a = " + "[" * 500_000),
    "toml deep tables": lambda: _toml("a = " + "{a = " * 200_000),
    "toml dotted": lambda: _toml(".".join(["a"] * 400_000) + " = 1"),
    "toml dotted header": lambda: _toml("[" + ".".join(["a"] * 400_000) + "]"),
    "toml nested within": lambda: _toml("a = " + "[" * 390 + "]" * 390),
    "toml many values": lambda: _toml("a = [" + "1," * 500_000 + "]"),
    "toml many tables": lambda: _toml("".join(f"[a{n}]\n" for n in range(90_000))),
    "toml endless text": lambda: _toml('a = """' + "x" * 900_000),
    "toml not text": lambda: ("h.toml", b"a = '\xff'"),
    "toml nul": lambda: _toml("a = '\0'"),
    "toml twice": lambda: _toml("a = 1\na = 2"),
}


def main(names: list[str]) -> None:
    """Load cases (all without names) and say what each cost: seconds, KiB of growth, problems, the first."""
    from specs import load

    before = _peak()
    for name in names or CASES:
        file, data = CASES[name]()
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, file)
            with open(path, "wb") as out:
                out.write(data)
            del data
            start = time.process_time()
            loaded = load(path, {"BIG": "x" * 100_000})
            spent = time.process_time() - start
            first = str(loaded.problems[0]) if loaded.problems else "accepted"
            shown = first.removeprefix(directory + "/")[:200]
            print(f"{name}\t{spent:.3f}\t{_peak() - before}\t{len(loaded.problems)}\t{shown}")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1:])
