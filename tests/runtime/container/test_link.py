"""Messages between our processes."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from runtime.container import link


@pytest.fixture
def no_room() -> Iterator[None]:
    """No further descriptor may be had; those there are stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("no_room")
def test_a_descriptor_that_the_kernel_drops_is_not_waited_for() -> None:
    ours, theirs = link.pair()
    with ours, theirs:
        link.send(ours, link.MOUNTS, [0, 1, 2])
        link.send(ours, link.GO)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        finally:
            for fd in held[:1]:
                os.close(fd)
        with pytest.raises(OSError) as caught:
            link.receive_fds(theirs, link.MOUNTS, 3)
        assert caught.value.errno == errno.EMFILE
        for fd in held[1:]:
            os.close(fd)
        assert link.receive(theirs)[0] == link.GO


def test_last_words_are_heard_of_who_did_not_listen() -> None:
    """A first process that fails while its barrier opens: without its word it would count as having executed."""
    ours, theirs = link.pair()
    with ours:
        link.send(theirs, link.FAILED, message={"message": "no such profile"})
        link.send(ours, link.GO)
        theirs.close()
        assert link.receive(ours) == (link.FAILED, [], {"message": "no such profile"})
        assert link.receive(ours) == (b"", [], None)
