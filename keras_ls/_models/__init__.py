"""Questions to a Keras model: inputs, outputs, logits, last layer, predictions; README.md says which is where."""
