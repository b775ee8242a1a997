"""The path of a row around the forward pass: encode, decode, measure."""
