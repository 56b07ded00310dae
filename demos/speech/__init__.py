"""Speech recognition: what label smoothing does to an attention model and its beam search."""
