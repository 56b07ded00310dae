"""What image data sets have in common."""
