"""The forward pass without PyTorch."""
