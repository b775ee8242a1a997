"""What is fetched from package indexes: backbones and sample data, checked by SHA-256."""
