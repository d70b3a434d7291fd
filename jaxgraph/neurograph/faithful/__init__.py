"""The original's dynamics and learning rule on integers, without its accidents.

`canon` in the specification (section 8.3): activations are numbered as nodes are, nothing leaks
from one sample to the next, and the trainer reads the true output nodes.
"""
