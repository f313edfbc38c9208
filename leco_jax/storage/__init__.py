"""Files of every kind: paths, JSONL, results, work directories; imports no JAX."""
