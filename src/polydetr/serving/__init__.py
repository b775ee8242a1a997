"""The service: models over HTTP. One process speaks HTTP, others hold the models and compute."""
