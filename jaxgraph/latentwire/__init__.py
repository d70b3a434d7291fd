"""LatentWire: a text as a few soft tokens, which frozen language models continue.

Words of this system:
  wire: the latents ``[b m d]`` that leave the encoder; all that a model hears of the text.
  slots: places on the wire, shared by all models or private to one.
  adapter: makes a model's soft prompt out of the wire.
  calibration: scales a soft prompt to the strength of the model's own embeddings.
  anchor: fixed tokens between the soft prompt and the answer, such as "Answer: ".
  teacher: the same frozen model, reading the text itself.

Source: a PyTorch research package, as spec/latentwire.md describes it; deviations are listed in
docs/parity.md.
"""
