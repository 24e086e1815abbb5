"""The border between those who decide and the kernel: the `Runtime` protocol and its values."""
