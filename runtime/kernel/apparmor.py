"""AppArmor: whether the kernel enforces it, and our default profile in it (man 8 apparmor_parser, man 5 apparmor.d)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

DEFAULT = "trueup-default"
UNCONFINED = "unconfined"
PROFILE = Path(__file__).parent / "apparmor-default.profile"


def enabled() -> bool:
    """Whether this kernel enforces AppArmor."""
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        return False


def parser() -> str | None:
    """The program that compiles profiles, also where PATH has no directory of administrators."""
    return shutil.which("apparmor_parser", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def load_default() -> bool:
    """Put the default profile into the kernel, in place of an older one; False where that cannot be done."""
    program = parser() if enabled() else None
    if program is None:
        return False
    done = subprocess.run([program, "-r", "-K", "-q", str(PROFILE)], capture_output=True, check=False)
    return done.returncode == 0
