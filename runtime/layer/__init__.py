"""Layers: unpack, pack, overlay; a layer exists if and only if its directory does."""
