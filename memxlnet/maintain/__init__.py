"""Published caches checked, received, replaced and removed."""
