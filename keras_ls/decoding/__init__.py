"""Beam search over any step function."""

from keras_ls.decoding.beam_search import BeamSearchResult, beam_search

__all__ = ["BeamSearchResult", "beam_search"]
