"""Inference: scoring kernels, models, decoding, LeCo and what it is compared with.

A plain install gives `leco_jax.scoring`; the other packages need the extra `experiments`.
"""

__version__ = "0.1.0"
