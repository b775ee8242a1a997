"""Pure tensors in, tensors out: attention, the shared encoder, positions, pooling, low-rank adaptation."""
