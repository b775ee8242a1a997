"""What a backbone needs to have rows prepared for it: tokenizer, special ids, mean, std, grid. No torch.

A spec is saved in the model folder and never asks a network what the network is like: ``polydetr.backbones`` builds the
network from the spec, and reads its pretrained weights.
"""
