"""The path of a row without its forward pass: encode, decode, measure."""
