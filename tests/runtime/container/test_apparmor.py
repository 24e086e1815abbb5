"""Containers under the AppArmor profile, where the kernel enforces it: a wall of its own when all others are down."""

from __future__ import annotations

import os
import signal

import pytest

from runtime.container import defaults
from runtime.errors import InvalidInput, Unsupported
from runtime.kernel import apparmor
from tests.kernel.test_apparmor import ENFORCED
from tests.runtime.container.world import World, run

pytestmark = [pytest.mark.privileged]

BARE = {"userns_base": 0, "seccomp": "unconfined", "masked_paths": (), "readonly_paths": ()}
SCRIPT = """
cat /proc/self/attr/current
mount -t tmpfs t /tmp 2>/dev/null && echo mounted || echo refused
echo x 2>/dev/null > /proc/sys/kernel/domainname && echo written || echo refused
(echo x > /tmp/file; kill -0 $$; ls /proc/1/fd >/dev/null; echo > /dev/null) && echo works
"""


@ENFORCED
@pytest.mark.parametrize("profile", [apparmor.DEFAULT, ""])
def test_it_holds_when_every_other_wall_is_down(world: World, profile: str) -> None:
    assert apparmor.load_default()
    answers = {
        apparmor.DEFAULT: ["trueup-default", "(enforce)", "refused", "refused", "works"],
        "": ["unconfined", "mounted", "written", "works"],
    }

    async def test(w: World) -> None:
        rights = (*defaults.CAPABILITIES, "SYS_ADMIN")
        assert (await w.sh(SCRIPT, apparmor=profile, capabilities=rights, **BARE)).split() == answers[profile]

    run(world, test)


@ENFORCED
def test_a_default_container_does_not_notice(world: World) -> None:
    assert apparmor.load_default()

    async def test(w: World) -> None:
        bundle = w.bundle(
            "sh", "-c", "(sleep 1000 & kill $!; wait); echo ok; exec sleep 1000", apparmor=apparmor.DEFAULT
        )
        pending = await w.start(bundle)
        code, text = await w.exec_output(bundle, pending, "cat", "/proc/self/attr/current", "/proc/1/attr/current")
        assert (code, text.split()) == (0, ["trueup-default", "(enforce)"] * 2)
        os.kill(pending.pid, signal.SIGKILL)
        assert (await w.end(bundle, pending)).code == 137
        assert await w.output(bundle) == "ok\n"

    run(world, test)


def test_a_profile_that_is_not_there_is_named(world: World) -> None:
    async def test(w: World) -> None:
        with pytest.raises((InvalidInput, Unsupported), match="cannot use AppArmor profile no-such-profile"):
            await w.run(w.bundle("true", apparmor="no-such-profile"))

    run(world, test)
