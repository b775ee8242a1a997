"""Parts that pages are made of. They know texts, numbers, spans and images; nothing of models."""
