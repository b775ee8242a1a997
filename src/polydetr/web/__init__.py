"""The ground of every page: frame, components, people, store. It knows nothing of models or of serving."""
