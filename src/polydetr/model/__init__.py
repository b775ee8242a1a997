"""The network, assembled: built fresh or loaded from its folder."""
