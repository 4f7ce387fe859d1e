"""Caches that travel: sent to and fetched from object stores, shared file systems and the Hub."""
