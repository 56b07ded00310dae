"""Each file is one published result."""
