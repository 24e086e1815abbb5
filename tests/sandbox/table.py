"""The default sandbox as a table, docs/sandbox.md: what the probe printed, row by row, beside other engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from runtime.kernel import capability

FILE = Path(__file__).resolve().parents[2] / "docs/sandbox.md"
OURS = "trueup"
Rows = dict[str, str]

HEAD = """# The default sandbox

What a container gets when its spec says nothing about it, as a shell script inside the container sees it, beside the
same script under Docker and Podman. Written by `sudo scripts/sandbox-table`; a test holds the first column to what the
script prints now. The other columns are of this machine: {machine}

Ways out, narrowest first: `cap_add`, `sysctls`, `devices`, `tmpfs` and `security_opt` for one right; `userns_mode:
host` for a file system that cannot shift owners; `privileged: true` for everything.
A service that asks for a piece of the host (its network, a device, a capability that counts on the host only) gets no
user namespace, and `trueup status` says so. A program whose file carries a capability that is not in the first row
cannot be executed (some distributions' `ping` carries NET_RAW): add that capability.

Habits of public images that are tested under it: sudo, gosu, ping, cron, sshd's locked-up child and terminals, a
database that takes over its volume, a web server that drops root and logs through links to /dev/stdout, a bind mount
that belongs to somebody, a low port without root, setgid programs.

Not to be seen from inside: output is kept in files of 10 MiB, five at most, with line ends or without (Docker's file
grows without bound); all containers together leave the host a tenth of its memory, 512 MiB at least; a published port
without an address is open on all of them, as Compose says, but one published on 127.0.0.1 cannot be reached through the
bridge.
"""

ROWS: dict[str, str] = {
    "caps-Bnd": "Podman's eleven. Docker adds NET_RAW (forge packets), MKNOD and AUDIT_WRITE.",
    "caps-Eff": "Root's, before it drops any.",
    "caps-Prm": "The same.",
    "caps-Inh": "None: a program with file capabilities gets no more than root gave up.",
    "caps-Amb": "None.",
    "no-new-privileges": "Off, since setuid gains nothing outside the container's own ids; a setting turns it on.",
    "seccomp": "2: a filter is on.",
    "apparmor": "A profile like docker-default where the kernel has AppArmor; nothing to configure where it has not.",
    "uid-map": "Ids of its own: root inside is nobody outside. The kernel shifts layers, volumes, bind mounts.",
    "gid-map": "The same for groups.",
    "groups": "What the image's /etc/group says, nothing of the host's.",
    "shared-namespaces": "All eight are private, the cgroup's on version 1 too, and the clock's offsets.",
    "host-facts": "Of the files and directories that tell about the host or steer it, those that can be read.",
    "writable-kernel-paths": "Of the kernel's own trees, those not mounted read-only.",
    "opens-/proc/sys/kernel/hostname": "A kernel parameter opened for writing.",
    "opens-/proc/sysrq-trigger": "The switch for an immediate reboot opened for writing.",
    "dev": "Exactly what programs expect; /dev/console with a terminal only.",
    "nodes-made": "Device nodes (mem, kmsg, console, fuse, …) that root could make.",
    "nodes-opened": "Those it could open then; the device cgroup stands behind.",
    "mount-/": "nodev: device nodes that an image brings along are dead.",
    "mount-/proc": "",
    "mount-/sys": "Read-only.",
    "mount-/sys/fs/cgroup": "Read-only, its own groups only.",
    "mount-/dev": "No program can be put there.",
    "mount-/dev/pts": "Terminals of its own.",
    "mount-/dev/mqueue": "",
    "mount-/dev/shm": "64 MiB unless `shm_size` says otherwise.",
    "mode-/dev/shm": "",
    "mode-/tmp": "As the image has it.",
    "limit-nofile": "Open files, soft; the hard limit is 524288 where we may raise it. More slows old programs down.",
    "limit-core": "No core dumps fill the disk.",
    "limit-pids": "A fork bomb ends here; `pids_limit` changes it.",
    "oom-score": "A container dies before the agent (−900), its spawner and its monitors (−950) do.",
    "umask": "",
    "descriptors": "Nothing of ours is left open.",
    "session-leader": "So a signal to its group reaches nobody else.",
    "low-ports-from": "Port 80 needs no root.",
    "ping-groups": "`ping` works without NET_RAW.",
    "router-advertisements": "A neighbour cannot become the router.",
    "ipv6-off": "",
    "call socket-packet": "Raw frames.",
    "call socket-rds": "Seldom used protocols with a history of holes.",
    "call socket-tipc": "The same.",
    "call socket-alg": "The kernel's cryptography by socket; glibc does not need it.",
    "call socket-vsock": "A way to the hypervisor that no firewall sees.",
    "call socket-netlink": "`ip addr` works.",
    "call socket-raw": "Needs NET_RAW.",
    "call socket-ping": "See ping-groups.",
    "call unshare-user": "A nested user namespace would bring every capability back and open much of the kernel.",
    "call clone3": "ENOSYS makes libc fall back to clone, whose flags a filter can see.",
    "call setns": "",
    "call mount": "",
    "call open_tree": "",
    "call pivot_root": "",
    "call bpf": "",
    "call perf_event_open": "",
    "call io_uring_setup": "Its operations go past the filter.",
    "call userfaultfd": "Stops the kernel in the middle of a copy: makes races easy to win.",
    "call keyctl": "Keys are not in a namespace.",
    "call add_key": "",
    "call request_key": "",
    "call kexec_load": "",
    "call init_module": "",
    "call swapon": "",
    "call settimeofday": "",
    "call syslog": "",
    "call open_by_handle_at": "Opens files by number, past every mount.",
    "call move_pages": "",
    "call ptrace": "Debuggers work, on processes of the same container.",
    "call process_vm_readv": "The same.",
    "call personality-no-randomize": "",
    "call unknown": "ENOSYS, so that a libc newer than the filter falls back.",
    "call x32": "",
    "call int80": "A 32-bit call ends the process: its numbers mean other calls.",
}  # fmt: skip
"""Row → a line on it; the order is the document's."""


class Column(NamedTuple):
    """One engine's rows."""

    title: str
    rows: Mapping[str, str]


def parse(text: str) -> Rows:
    """What the probe printed. Raises AssertionError unless it came to its end."""
    lines = text.splitlines()
    assert lines and lines[-1] == "end", f"the probe broke off:\n{text}"
    words = (line.split(" ", 2 if line.startswith("call ") else 1) for line in lines[:-1])
    rows = {" ".join(parts[:-1]): parts[-1] for parts in words}
    return {key: _readable(key, value) for key, value in rows.items()}


def _readable(key: str, value: str) -> str:
    if key.startswith("caps-"):
        return " ".join(sorted(capability.names(int(value, 16)))) or "none"
    return value


def render(columns: tuple[Column, ...], machine: str) -> str:
    """The document."""
    lines = [["", *(column.title for column in columns), ""], ["---"] * (len(columns) + 2)]
    for key, remark in ROWS.items():
        cells = [f"`{column.rows[key]}`" if key in column.rows else "" for column in columns]
        lines.append([key, *cells, remark])
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return HEAD.format(machine=machine) + "\n" + table


def read(text: str) -> tuple[tuple[Column, ...], str]:
    """What `render` made a document of: its columns, and the machine."""
    machine = next(line.split("this machine: ")[1] for line in text.splitlines() if "this machine: " in line)
    table = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    columns = [
        Column(title, {row[0]: row[n].strip("`") for row in table[2:] if row[n]})
        for n, title in enumerate(table[0][1:-1], 1)
    ]
    return tuple(columns), machine
