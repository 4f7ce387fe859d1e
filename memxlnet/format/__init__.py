"""A published cache on disk: names, fingerprint, manifest, layout of rows and files, mapping, reading. No torch."""
