"""Images by name and digest: references, manifests, registries, archives, the store."""
