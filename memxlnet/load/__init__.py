"""From an opened cache to batches: plan, tensors, datasets, loader."""
