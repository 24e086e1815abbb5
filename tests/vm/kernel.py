"""A Debian kernel, taken from Debian's own package by apt with a state of its own, and an initramfs for it.

The host's apt is left alone: sources, lists and cache lie in the cache directory. Signatures are checked
against the host's debian-archive-keyring.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SUITES = {"6.1": "bookworm", "6.12": "trixie"}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EARLY = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtiofs",
    "9p",
    "9pnet_virtio",
    "overlay",
    "ext4",
    "crc32c_generic",
)
"""What is needed before the root with all other modules is there."""
_INIT = Path(__file__).with_name("init")


class NoKernel(Exception):
    """Debian's package cannot be had here and now; the text says why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """`image` boots; `modules` holds the directory named after the release."""

    image: Path
    modules: Path

    @property
    def release(self) -> str:
        """As uname -r says it, such as "6.1.0-37-amd64"."""
        return self.image.name.removeprefix("vmlinuz-")


def fetch(version: str, cache: Path) -> Kernel:
    """The newest kernel of a version's suite; downloaded once, about 100 MB, and kept unpacked in `cache`.

    Raises NoKernel.
    """
    home = cache / f"linux-{version}"
    if not home.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            try:
                _unpack_package(SUITES[version], Path(scratch))
            except subprocess.CalledProcessError as e:
                what = f"{e.cmd[0]} exited with {e.returncode}, see above"
                raise NoKernel(f"cannot fetch Debian's Linux {version} ({SUITES[version]}): {what}") from e
            (Path(scratch) / "root").rename(home)
    return Kernel(next(home.glob("boot/vmlinuz-*")), next(home.glob("**/lib/modules")))


def _unpack_package(suite: str, scratch: Path) -> None:
    """Download the suite's linux-image and unpack it, with its table of module dependencies, into `scratch`/root."""
    sources = "".join(
        f"deb [signed-by={_KEYRING}] http://deb.debian.org/{archive} {name} main\n"
        for archive, name in (("debian", suite), ("debian-security", f"{suite}-security"))
    )
    (scratch / "sources.list").write_text(sources)
    (scratch / "lists/partial").mkdir(parents=True)
    (scratch / "archives/partial").mkdir(parents=True)
    _apt(scratch, "apt-get", "update")
    about = _apt(scratch, "apt-cache", "show", "--no-all-versions", "linux-image-amd64")
    package = re.search(r"^Depends: (linux-image-\S+)", about, re.MULTILINE)
    assert package, f"linux-image-amd64 of {suite} names no kernel"
    _apt(scratch, "apt-get", "download", package[1])
    subprocess.run(["dpkg-deb", "-x", *scratch.glob("*.deb"), scratch / "root"], check=True)
    if not (scratch / "root/lib").exists():  # depmod and modprobe look in /lib
        (scratch / "root/lib").symlink_to("usr/lib")
    release = next(scratch.glob("root/boot/vmlinuz-*")).name.removeprefix("vmlinuz-")
    subprocess.run(["depmod", "-b", scratch / "root", release], check=True)


def _apt(scratch: Path, program: str, *words: str) -> str:
    options = {
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
    }
    settings = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    done = subprocess.run(
        [program, "-qq", *settings, *words], cwd=scratch, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def initramfs(kernel: Kernel, target: Path) -> None:
    """Write the initramfs: busybox, the early modules in the order they are loaded in, and `init`."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "bin").mkdir()
        (root / "modules").mkdir()
        shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
        shutil.copy(_INIT, root / "init")
        (root / "init").chmod(0o755)
        for number, path in enumerate(_early_modules(kernel)):
            content = path.read_bytes()
            if path.suffix == ".xz":
                content = lzma.decompress(content)
            (root / f"modules/{number:02}-{path.name.split('.')[0]}.ko").write_bytes(content)
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        command = ["busybox", "cpio", "-o", "-H", "newc"]
        archive = subprocess.run(command, cwd=root, input=names.encode(), capture_output=True, check=True).stdout
    target.write_bytes(gzip.compress(archive, 1))


def _early_modules(kernel: Kernel) -> list[Path]:
    """Files of the early modules, each after those it needs; what is built in has none."""
    base = kernel.modules.parent.parent
    paths: dict[Path, None] = {}
    for name in _EARLY:
        command = ["modprobe", "-d", str(base), "-S", kernel.release, "--show-depends", name]
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        paths.update((Path(line.split()[1]), None) for line in shown.splitlines() if line.startswith("insmod"))
    return list(paths)
