"""The build: a source becomes chunks, chunks are encoded and handed to a cache manager, which publishes them."""
