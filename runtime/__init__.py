"""Does things to the kernel; knows nothing of specs or of the agent."""
