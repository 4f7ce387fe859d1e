"""Copies of a cache in the formats of other tools."""
