"""The version of the encoder."""

ALGORITHM_VERSION = 3
"""Version of what turns examples into features; a change of any value that a cache holds raises it."""
