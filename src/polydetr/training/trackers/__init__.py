"""Records of a run for other tools: one module per tool, which alone imports it, in a process of its own.

Nothing here imports torch. ``base`` is the interface, ``guard`` the training's side of it, ``worker`` the other end.
"""
