"""`scripts/bench [SUBJECT…] [--quick] [--peers docker,podman,runc,crun] [--write]`: prints tables of figures."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from benchmarks import document, enclosure, measure, subjects
from benchmarks.stage import PROGRAMS, Stage
from benchmarks.table import Table, render

NO_KERNEL = ("resync",)  # on the in-memory runtime: any machine, any user


def names() -> list[str]:
    """All subjects."""
    return sorted(module.name for module in pkgutil.iter_modules(subjects.__path__))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Figures of trueup beside its peers, of one run."
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(names())}; default all")
    parser.add_argument("--quick", action="store_true", help="a fifth of the repetitions")
    parser.add_argument(
        "--peers", default="", metavar="LIST", help=f"of {','.join(PROGRAMS)}: measured in the same run"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md as well")
    found = parser.parse_args()
    found.peers = tuple(filter(None, found.peers.split(",")))
    for word, known in [(s, names()) for s in found.subjects] + [(p, list(PROGRAMS)) for p in found.peers]:
        if word not in known:
            parser.error(f"there is no {word!r}; known are {', '.join(known)}")
    found.subjects = found.subjects or names()
    return found


def main() -> int:
    """Print the tables; 0 unless a subject could not be measured."""
    wanted = arguments()
    if enclosure.inside():
        enclosure.settle()
        return enclosure.as_first_process(lambda: run(wanted, enclosure.home()))
    if os.geteuid() == 0:
        return enclosure.enter()
    wanted.subjects = [name for name in wanted.subjects if name in NO_KERNEL]
    print("not root: only what needs no kernel is measured", file=sys.stderr)
    return run(wanted, Path(os.environ.get("TMPDIR", "/tmp")))


def run(wanted: argparse.Namespace, home: Path) -> int:
    """Every subject in turn; one that fails does not keep the others from running."""
    stage, failed = Stage(home, wanted.peers, wanted.quick), 0
    print(measure.machine())
    try:
        for name in wanted.subjects:
            module = importlib.import_module(f"benchmarks.subjects.{name}")
            print(f"\n== {name} == {measure.load()}", flush=True)
            conditions, tables = f"{time.strftime('%Y-%m-%d %H:%M')}, {measure.load()}", []
            try:
                for table in _each(module.run(stage)):
                    tables.append(table)
            except Exception:
                failed = 1
                traceback.print_exc()
            if tables and wanted.write:
                document.put(name, module.__doc__ or "", conditions, tables)
    finally:
        stage.close()
    return failed


def _each(tables: Iterator[Table]) -> Iterator[Table]:
    for table in tables:
        print("\n" + render([table], markdown=False), flush=True)
        yield table


if __name__ == "__main__":
    sys.exit(main())
