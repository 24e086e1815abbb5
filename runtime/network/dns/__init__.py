"""Names of user-defined networks: an own small DNS server process that outlives the agent.

Standard library only: the process stays small, starts fast, and parses hostile packets with code
that is short enough to read.
"""
