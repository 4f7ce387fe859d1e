"""Examples to record batches: tokenizers, NumPy and pyarrow only, so that workers start light."""
