"""A container's processes as `ps` prints them.

`ps -ef` is answered from /proc; any other arguments are given to the host's `ps`, whose lines
are kept when their PID is one of the container's, as dockerd does.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import time

from runtime.errors import InvalidInput, Unsupported

Found = list[tuple[int, list[str]]]
_EF = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_ARGUMENTS = re.compile(r"[A-Za-z0-9 ,=%_+\-]*")
_TICKS = os.sysconf("SC_CLK_TCK")


async def table(arguments: str, found: Found) -> tuple[list[str], list[list[str]]]:
    """(titles, rows). Raises InvalidInput for arguments that are not options, Unsupported without `ps`."""
    if arguments.strip() in ("", "-ef"):
        return _EF, [row for row in (_row(pid, argv) for pid, argv in found) if row]
    if not _ARGUMENTS.fullmatch(arguments):
        raise InvalidInput(f"cannot run ps {arguments!r}: only options and column names are allowed")
    program = shutil.which("ps")
    if program is None:
        raise Unsupported("cannot list processes that way: no ps on this host", hint="apt install procps")
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments.split(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode(errors="replace")
    if process.returncode:
        raise InvalidInput(f"ps: {output.strip()[:500]}")
    return select(output, {pid for pid, _ in found})


def select(output: str, pids: set[int]) -> tuple[list[str], list[list[str]]]:
    """Titles and the rows of `pids` out of what `ps` printed; the last column may hold blanks."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidInput("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            rows.append(fields)
    return titles, rows


def _row(pid: int, argv: list[str]) -> list[str]:
    """One line of `ps -ef`; [] when the process has ended (man 5 proc_pid_stat)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return []
    ticks = int(fields[11]) + int(fields[12])
    started = time.time() - (_uptime() - int(fields[19]) / _TICKS)
    used = ticks // _TICKS
    busy = min(99, int(100 * ticks / _TICKS / max(1.0, time.time() - started)))
    return [
        _user(owner),
        str(pid),
        fields[1],
        str(busy),
        time.strftime("%H:%M" if time.time() - started < 86400 else "%b%d", time.localtime(started)),
        _tty(int(fields[4])),
        f"{used // 3600:02d}:{used // 60 % 60:02d}:{used % 60:02d}",
        " ".join(argv),
    ]


def _uptime() -> float:
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0])


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _tty(number: int) -> str:
    """pts/N for majors 136 to 143 (man 4 pts), "?" without a terminal."""
    major, minor = os.major(number), os.minor(number)
    return f"pts/{(major - 136) * 256 + minor}" if 136 <= major <= 143 else "?"
