"""`python -m agent`: the same as the `trueup` program."""

from __future__ import annotations

from agent.cli import main

main()
