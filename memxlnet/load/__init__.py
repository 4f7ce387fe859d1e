"""From an opened cache to batches: order, plan, tensors, datasets, loaders."""
