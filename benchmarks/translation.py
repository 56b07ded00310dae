"""A training step of the demo's translator, and of the same network from keras.layers and Keras's loss alone."""

import numpy as np

from benchmarks.harness import Bound, Case, Prepared, Subject

OURS, FUSED, PLAIN = "Translator", "Translator, fused output", "keras.layers alone"


def plain(vocabulary_size, units, blocks, heads, dropout):
    """The logits of a pre-norm Transformer whose output layer is the transposed embedding."""
    import keras
    from keras import layers, ops

    from demos.sequence.attention import positions, valid

    table = layers.Embedding(vocabulary_size, units, keras.initializers.RandomNormal(0, units**-0.5))

    class Embedded(layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = table  # so that Keras trains it

        def call(self, tokens):
            return self.table(tokens) * units**0.5 + positions(ops.shape(tokens)[1], units)

    class Tied(Embedded):
        def call(self, x):
            return ops.matmul(x, ops.transpose(self.table.embeddings))

    class Mask(layers.Layer):
        def call(self, sources, count):
            return ops.expand_dims(valid(count, ops.shape(sources)[1]), 1)

    def added(x, change):
        return layers.add([x, layers.Dropout(dropout)(change(layers.LayerNormalization()(x)))])

    def dense(x):
        return layers.Dense(units)(layers.Dropout(dropout)(layers.Dense(4 * units, activation="relu")(x)))

    def attended(x, memory=None, **mask):
        attention = layers.MultiHeadAttention(heads, units // heads)
        return added(x, lambda y: attention(y, y if memory is None else memory, **mask))

    sources, tokens = (keras.Input((None,), dtype="int32", name=name) for name in ("sources", "tokens"))
    count = keras.Input((), dtype="int32", name="num_sources")
    mask = Mask()(sources, count)
    x = layers.Dropout(dropout)(Embedded()(sources))
    for _ in range(blocks):
        x = added(attended(x, attention_mask=mask), dense)
    memory = layers.LayerNormalization()(x)
    x = layers.Dropout(dropout)(Embedded()(tokens))
    for _ in range(blocks):
        x = added(attended(attended(x, use_causal_mask=True), memory, attention_mask=mask), dense)
    inputs = {"sources": sources, "num_sources": count, "tokens": tokens}
    return keras.Model(inputs, Tied()(layers.LayerNormalization()(x)))


def prepare(case, batch_size, length, vocabulary_size, network):
    """One step, optimizer included, of sentences of one length on both sides."""
    import keras

    from demos.translation import objective
    from demos.translation.recipe import Recipe

    rng = np.random.default_rng(0)
    x = {name: rng.integers(0, vocabulary_size, (batch_size, length), "int32") for name in ("sources", "tokens")}
    x["num_sources"] = np.full(batch_size, length, "int32")
    y = rng.integers(0, vocabulary_size, (batch_size, length), "int32")
    recipe = Recipe(size=network)
    if case.name == PLAIN:
        model = plain(vocabulary_size, *objective.SIZES[network], recipe.dropout)
        optimizer = keras.optimizers.Adam(recipe.learning_rate, beta_2=0.98, global_clipnorm=recipe.clipnorm)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
        model.compile(optimizer, loss, jit_compile=False)
    else:
        ours = objective.build(recipe, vocabulary_size)
        how = {"fused_output": case.name == FUSED, "jit_compile": False}
        model = objective.make_objective(ours, recipe, 0.1, y.ravel(), **how)
    return Prepared(lambda: model.train_on_batch(x, y), facts=lambda _: {"weights": model.count_params()})


SUBJECT = Subject(
    title="Translation",
    about="A training step of the small translator with label smoothing 0.1, and of the same network made of "
    "`keras.layers` with Keras's sparse cross-entropy of hard targets; without XLA.",
    prepare=prepare,
    size={"batch_size": 150, "length": 20, "vocabulary_size": 8_000, "network": "small"},
    quick={"batch_size": 4, "length": 6, "vocabulary_size": 50, "network": "tiny"},
    cases=tuple(Case(name, "tensorflow") for name in (OURS, FUSED, PLAIN)),
    bounds=(Bound(OURS, 1.15, PLAIN), Bound(FUSED, 1.0, OURS)),
)
