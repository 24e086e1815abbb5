"""One container's life: set-up, spawner, monitor, exec, logs, records."""
