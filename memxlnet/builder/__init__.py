"""The build: a source becomes chunks, chunks are encoded, and the chunks are published as a cache."""
