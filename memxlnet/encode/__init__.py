"""Raw examples in, record batches out: sources, answers, memory tokens, tokenizer layout, windows, encoder.

Needs tokenizers, NumPy and pyarrow only; transformers and datasets are imported where a source or a check asks for
them, so that a worker starts light.
"""
