"""Frozen language models: a Llama and Qwen2 decoder, its weights from files, and generation.

Words of this room:
  frozen: weights are an argument of every function, in the dtype of their file, never trained.
  ids or vectors: a model reads token ids `[b t]` or vectors of its embedding space `[b t d]`.
  past: keys and values in front of the first token, from an earlier pass or from anywhere else.
  cache: such keys and values in a buffer of fixed size, which decoding fills token by token.

Source: the Llama and Qwen2 architectures as spec/latentwire.md, section 5, defines them; deviations
are listed in docs/parity.md.
"""
