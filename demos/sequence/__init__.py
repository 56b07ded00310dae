"""What demos share whose networks write tokens one after the other; nothing in it knows sound, images or a language."""
