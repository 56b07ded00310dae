"""Waveforms: read from files, spoken by a synthesiser, mixed with noise, turned into features."""
