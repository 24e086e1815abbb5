"""Tar streams, as layers and copies into and out of containers read and write them."""
