"""Figures of trueup beside docker, podman, runc, crun and the bare kernel, all of one run on one machine.

Nothing here is asserted by a test: speed depends on the machine, so the tables carry ratios as well.
"""
