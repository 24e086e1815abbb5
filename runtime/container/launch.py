"""The last steps of a process on its way into a command: user, capabilities, filter, exec.

The same for a container's first process and for exec. Until execve the process runs our code with the
container's rights, so nothing is imported and no path is searched from here on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
import sys
import termios
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from runtime.container import defaults, rlimits, users
from runtime.container.config import Bundle
from runtime.errors import CommandFailed, InvalidInput, KernelRefused, Unsupported
from runtime.kernel import capability, seccomp
from runtime.kernel.libc import call
from runtime.kernel.mount import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2
from runtime.kernel.process import PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, prctl

_SYS_ADMIN = capability.mask(["SYS_ADMIN"])
_KEYCTL_JOIN_SESSION_KEYRING = 1


class Init(NamedTuple):
    """A static init to run the command under: a descriptor of its directory, through a mount of ours, and its name."""

    directory: int
    name: str

    @property
    def path(self) -> str:
        """To execute; the process is called after its last part."""
        return f"/proc/self/fd/{self.directory}/{self.name}"


NO_INIT = Init(-1, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to execute and with which rights."""

    args: tuple[str, ...]
    environment: tuple[str, ...]
    cwd: str
    user: str
    group_add: tuple[str, ...]
    capabilities: tuple[str, ...]
    no_new_privileges: bool
    filter: bytes  # BPF, b"" for none
    apparmor: str
    tty: bool
    limits: tuple[rlimits.Limit, ...] = ()
    init: Init = NO_INIT

    @classmethod
    def of(cls, bundle: Bundle, program: bytes, init: Init) -> Command:
        """The bundle's command; a privileged one has no filter and every capability."""
        return cls(
            args=bundle.args,
            environment=bundle.environment,
            cwd=bundle.cwd,
            user=bundle.user,
            group_add=bundle.group_add,
            capabilities=bundle.capabilities,
            no_new_privileges=bundle.no_new_privileges,
            filter=program,
            apparmor=bundle.apparmor,
            tty=bundle.tty,
            limits=rlimits.wanted(bundle),
            init=init,
        )


def forget_imports() -> None:
    """From here on a missing module is an error, never a file of the container."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def open_terminal(ptmx: int) -> int:
    """The slave end of a pty master, without looking up a name."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    fcntl.ioctl(ptmx, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK: unlock
    return call("ioctl", ptmx, 0x5441, flags)  # TIOCGPTPEER


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set a terminal's size in characters."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def take_stdio(fds: tuple[int, int, int], user: users.User, *, tty: bool) -> None:
    """Make `fds` the standard streams, own them, and lead a session of our own."""
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number, inheritable=True)
    if tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in range(3):
        mode = os.fstat(number).st_mode
        if stat.S_ISFIFO(mode) or (tty and stat.S_ISCHR(mode)):
            os.fchown(number, user.uid, 5 if tty else user.gid)


def execute(command: Command, user: users.User) -> NoReturn:
    """Give up what the command shall not have and become it. Raises CommandFailed or KernelRefused."""
    shed(command, user)
    become(command, user)


def shed(command: Command, user: users.User) -> None:
    """Give up all but what the last moment needs. Raises OSError, CommandFailed, InvalidInput, Unsupported."""
    _join_keyring()
    _enter(command.cwd)
    keep = capability.mask(command.capabilities) & capability.all_known()
    if command.apparmor:
        _set_apparmor(command.apparmor)
    os.umask(0o022)
    _restore_signals()
    capability.drop_bounding(keep)
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    final = keep if user.uid == 0 else 0
    if command.no_new_privileges:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        capability.set(final, final)
    elif command.filter:
        # execve sets the final sets from the bounding set; until then only the filter's load needs one
        capability.set(_SYS_ADMIN, _SYS_ADMIN | final)
    else:
        capability.set(final, final)


def become(command: Command, user: users.User) -> NoReturn:
    """Take on the limits and the filter and execute, after `shed`. Raises CommandFailed or KernelRefused."""
    environment = _environment(command, user)
    call("close_range", 3, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC
    rlimits.take_on(command.limits)
    if command.filter:
        seccomp.load(command.filter)
    _exec(command, environment)


def _join_keyring() -> None:
    try:
        call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0)
    except OSError:  # a kernel without keys, or over quota: the session keyring stays empty anyway
        pass


def _environment(command: Command, user: users.User) -> dict[str, str]:
    found = {}
    for item in command.environment:
        name, equals, value = item.partition("=")
        if equals:
            found[name] = value
    found.setdefault("PATH", defaults.PATH)
    found.setdefault("HOME", user.home)
    if command.tty:
        found.setdefault("TERM", "xterm")
    return found


def _set_apparmor(profile: str) -> None:
    try:
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        # not what an image has had mounted there: it would take the profile's name, and the kernel none
        fd = openat2(proc, "self/attr/apparmor/exec", os.O_WRONLY, resolve=RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS)
        os.write(fd, f"exec {profile}".encode())
        os.close(fd)
        os.close(proc)
    except OSError as e:
        what = f"cannot use AppArmor profile {profile}"
        if not os.path.exists("/proc/self/attr/apparmor"):
            raise Unsupported(f"{what}: this kernel does not enforce AppArmor") from e
        if e.errno == errno.ENOENT:
            raise InvalidInput(f"{what}: none of that name is loaded", hint="apparmor_parser -r FILE loads one") from e
        raise KernelRefused(f"{what}: {e.strerror}", errno=e.errno or 0) from e


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as e:
        code = 127 if e.errno == errno.ENOENT else 126
        text = f"cannot execute in {directory[:256]!r}: {(e.strerror or '').lower()}"
        raise CommandFailed(text, exit_code=code) from e


def _restore_signals() -> None:
    """Ignored signals survive execve, so what Python ignores must not."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _exec(command: Command, environment: dict[str, str]) -> NoReturn:
    name = command.args[0]
    paths = [name] if "/" in name else [f"{d or '.'}/{name}" for d in environment["PATH"].split(":") if name]
    failure = OSError(errno.ENOENT, "not found")
    for path in paths:
        try:
            if command.init.name:
                os.stat(path)  # tini reports nothing we could tell apart
                os.execve(command.init.path, ("/sbin/docker-init", "--", *command.args), environment)
            os.execve(path, command.args, environment)
        except (FileNotFoundError, NotADirectoryError) as e:
            failure = failure if failure.errno == errno.EACCES else e
        except PermissionError as e:
            failure = e
        except OSError as e:
            failure = e
            break
    raise command_failed(name, failure)


def command_failed(name: str, cause: OSError) -> CommandFailed:
    """The error of a command that cannot be executed, with the exit code a shell would give."""
    if cause.errno in (errno.ENOENT, errno.ENOTDIR):
        where = "no such file or directory" if "/" in name else "executable file not found in $PATH"
        return CommandFailed(f"cannot execute {name!r}: {where}", exit_code=127)
    return CommandFailed(f"cannot execute {name!r}: {(cause.strerror or '').lower()}", exit_code=126)
