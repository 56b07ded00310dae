"""What the package asks of a Keras model: inputs, outputs, logits, last layer, predictions; see README.md."""
