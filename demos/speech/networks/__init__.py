"""The recognisers, and what they are trained for."""
