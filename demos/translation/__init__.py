"""Translation: what smoothing does to next tokens, to beam search, and to the lists that it finds."""
