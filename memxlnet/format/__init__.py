"""Everything on disk: names, identity, manifest, chunk files, publishing, mapping, reading, verifying. No torch."""
