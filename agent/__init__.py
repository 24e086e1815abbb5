"""Decides and drives: observe, diff, plan, execute. Nothing imports the agent."""
