"""Kernels for the CPU: where stock PyTorch is slow, the same library's faster parts."""
