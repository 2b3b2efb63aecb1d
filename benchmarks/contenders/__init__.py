"""The contenders: our code and other projects', each in the process that `benchmarks.worker` runs.

A contender is built from the fields of a `TransformerConfig` and has some of these methods:

    warm(candidates, ...)        runs every part of drawing once, not measured
    draw(candidates, ...)        draws pictures of one caption and returns the number of passes over the weights
    train_step(batch_size)       makes one update
"""
