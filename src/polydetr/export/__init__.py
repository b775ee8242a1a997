"""A trained model as graphs that other runtimes compute."""
