"""What is done to published caches: verifying, replacing, removing."""
