"""Run the privileged tests, or any command, as root under a Debian kernel with pure cgroup v2 and AppArmor.

The guest sees the host's root, read-only, at the same paths, under an overlay that vanishes with it; /var/tmp
is a directory of an ext4 disk, so that data roots there can hold overlays. There is no network but lo.
Kernels and other things to keep lie in $XDG_CACHE_HOME/trueup-vm, by default /var/cache/trueup-vm.
Exit code 77: no guest can be had here (a program or a kernel is missing), so nothing was tested.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

from tests.vm import kernel, machine

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "trueup-vm"
SUBSET = Path(__file__).with_name("subset.txt")
SLOWER = 20
"""How many times slower than the host an emulated guest is, at worst: time limits are stretched by it."""
NO_GUEST = 77
"""Exit code when nothing was tested; as automake and meson take it, a skip."""
_NEEDS = {  # program: package
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.ext4": "e2fsprogs",
    "depmod": "kmod",
    "busybox": "busybox-static",
}


def main() -> int:
    """Boot each kernel that was asked for; the first exit code that is not 0 is ours."""
    options = _options()
    if missing := [package for program, package in _NEEDS.items() if not shutil.which(program)]:
        return _no_guest(f"cannot boot a guest: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        return _no_guest("cannot share the root file system with a guest: be root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the guest and its files go too
    CACHE.mkdir(parents=True, exist_ok=True)
    codes = []
    size = machine.Size(memory=options.memory, processors=options.processors)
    for version in kernel.SUITES if options.kernel == "both" else [options.kernel]:
        try:
            guest = kernel.fetch(version, CACHE)
        except kernel.NoKernel as e:
            return _no_guest(str(e))
        codes.append(machine.boot(guest, CACHE, _script(options, guest), size=size, timeout=options.timeout))
        print(f"test-vm: Linux {guest.release}: exit code {codes[-1]}", flush=True)
    return next(filter(None, codes), 0)


def _no_guest(why: str) -> int:
    print(f"test-vm: {why}", file=sys.stderr)
    return NO_GUEST


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-vm", description=__doc__)
    parser.add_argument("--kernel", choices=[*kernel.SUITES, "both"], default="both", help="Debian 12's 6.1, 13's 6.12")
    parser.add_argument("--subset", action="store_true", help=f"only what {SUBSET.name} lists")
    parser.add_argument("--command", action="store_true", help="WORDS are a command, not arguments of pytest")
    parser.add_argument("--memory", default="2G", help="of the guest (%(default)s)")
    parser.add_argument(
        "--processors", type=int, default=2, help="of the guest (%(default)s); 1 costs a third less when emulated"
    )
    parser.add_argument("--timeout", type=float, default=3600, help="seconds until the guest is killed (%(default)s)")
    parser.add_argument("words", nargs="*", metavar="WORDS", help="after --: arguments of pytest, or the command")
    return parser.parse_args()


def _script(options: argparse.Namespace, guest: kernel.Kernel) -> str:
    """The shell script that the guest runs."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(("TU_", "PYTEST_", "LC_", "LANG"))}
    ours = {"HOME": "/root", "TMPDIR": "/var/tmp", "TU_TEST_VM": guest.release, "TU_TEST_REQUIRE": "privileged"}
    environment = {**passed, **ours, "TU_TEST_SLOW": str(1 if machine.kvm() else SLOWER)}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    command = options.words if options.command else [*_pytest(subset=options.subset), *options.words]
    return "\n".join([*exports, f"cd {shlex.quote(str(machine.CHECKOUT))}", f"exec {shlex.join(command)}", ""])


def _pytest(*, subset: bool) -> list[str]:
    lines = SUBSET.read_text().splitlines() if subset else []
    chosen = [line for line in lines if line and not line.startswith("#")]
    python = f"{machine.CHECKOUT}/.venv/bin/python"
    # none of these tests uses schemathesis, and to import it takes an emulated guest twenty seconds
    without = ["-p", "no:cacheprovider", "-p", "no:schemathesis"]
    standing_still = ["-o", f"faulthandler_timeout={90 * (1 if machine.kvm() else SLOWER)}"]  # says where
    return [python, "-m", "pytest", *without, *standing_still, "-m", "privileged", *chosen]


if __name__ == "__main__":
    sys.exit(main())
