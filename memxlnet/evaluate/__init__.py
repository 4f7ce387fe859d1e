"""Evaluation straight from a cache: logits in, answers, official files and figures out. NumPy, no torch."""
