"""The kernel as Python sees it: one wrapper per syscall, named as in man section 2."""
