"""One guest: qemu, its disk, the host's root served to it, and the way of output and exit code out of it.

Output comes through a virtio port into a pipe of ours, the exit code through a second one into a file;
the kernel's own console goes to a file that is shown when the guest dies.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.vm.kernel import Kernel, initramfs

CHECKOUT = Path(__file__).resolve().parents[2]
TIMED_OUT, DIED = 124, 125
_VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a guest is: memory as qemu writes it ("2G"), processors."""

    memory: str
    processors: int


def boot(guest: Kernel, cache: Path, script: str, *, size: Size, timeout: float) -> int:
    """Run a shell script in a guest, its output on ours; its exit code, TIMED_OUT, or DIED when the guest did."""
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=cache)))
        (run / "command").write_text(script)
        initramfs(guest, run / "initramfs")
        _make_disk(run / "disk")
        share = _serve_root(run / "share")
        if share:
            stack.callback(share.wait)
            stack.callback(share.kill)
        finished = _stream(_qemu(guest, run, size, virtiofs=share is not None), timeout)
        if code := (run / "code").read_text():
            return int(code)
        sys.stderr.write((run / "console").read_text(errors="replace")[-4000:])
        return DIED if finished else TIMED_OUT


def _stream(arguments: list[str], timeout: float) -> bool:
    """Run qemu, its output on ours as it comes; whether it ended by itself."""
    late = threading.Event()
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as qemu:

        def give_up() -> None:
            late.set()
            qemu.kill()

        timer = threading.Timer(timeout, give_up)
        timer.start()
        try:
            while qemu.stdout and (output := qemu.stdout.read(65536)):
                sys.stdout.buffer.write(output)
                sys.stdout.buffer.flush()
        finally:
            timer.cancel()
            qemu.kill()
    return not late.is_set()


def _make_disk(path: Path) -> None:
    path.touch()
    os.truncate(path, 8 << 30)  # sparse
    lazily = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", lazily, path], check=True)


def _serve_root(path: Path) -> subprocess.Popen[bytes] | None:
    """A virtiofsd at the socket `path` that sees the root read-only itself; None without one: qemu's 9p then."""
    program = next(filter(os.path.exists, _VIRTIOFSD), None)
    if program is None:
        return None
    if "libexec" in program:  # since Debian 13 a package of its own, virtiofsd, written anew
        options = ["--shared-dir=/", "--sandbox=chroot", "--cache=auto"]
    else:
        options = ["-osource=/,sandbox=chroot,cache=auto,no_posix_lock", "--thread-pool-size=0"]
    read_only = ["unshare", "--mount", "--propagation=private", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"']
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        return subprocess.Popen(
            [*read_only, "sh", program, f"--fd={listener.fileno()}", *options],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def kvm() -> bool:
    """Whether the processor lends itself; /dev/kvm alone says little: a paravirtual one runs no foreign kernel."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)


def _qemu(guest: Kernel, run: Path, size: Size, *, virtiofs: bool) -> list[str]:
    options = [
        f"-M q35 -m {size.memory} -smp {size.processors}",
        "-nodefaults -no-user-config -display none -nic none -no-reboot",
        "-accel kvm -cpu host" if kvm() else "-accel tcg,thread=multi,tb-size=512 -cpu max",
        f"-object memory-backend-memfd,id=memory,size={size.memory},share=on -numa node,memdev=memory",
        f"-drive if=virtio,format=raw,cache=unsafe,file={run}/disk",
        f"-chardev file,id=console,path={run}/console -serial chardev:console",
        "-device virtio-serial-pci",
        "-chardev file,id=output,path=/dev/stdout,append=on -device virtserialport,chardev=output",
        f"-chardev file,id=code,path={run}/code -device virtserialport,chardev=code",
        f"-chardev socket,id=host,path={run}/share -device vhost-user-fs-pci,chardev=host,tag=host,queue-size=1024"
        if virtiofs
        else "-fsdev local,id=host,path=/,security_model=passthrough,readonly=on,multidevs=remap"
        " -device virtio-9p-pci,fsdev=host,mount_tag=host",
        f"-kernel {guest.image} -initrd {run}/initramfs",
    ]
    line = (  # what the kernel does not know itself becomes environment of process 1
        # no_timer_check: a busy host delays the emulated timer's first interrupts, and the kernel would give it up
        # init_on_alloc=0: a fifth less work for an emulator
        "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 no_timer_check cgroup_no_v1=all"
        " lsm=landlock,lockdown,yama,integrity,apparmor,bpf"
        f" CHECKOUT={CHECKOUT} RUN={run} MODULES={guest.modules}"
    )
    return ["qemu-system-x86_64", *" ".join(options).split(), "-append", line]
