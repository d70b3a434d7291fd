"""Checkpoints of the originals, one module per system, all with the same functions.

  recognises(content): whether the content of a `.pt` file is one of this system.
  read(path): parameters and the task's options.
  write(path, params, task): writes such a file.
  shapes_of(task): shapes and dtypes of the parameters.
  SIZES: the options that a run may leave to its data, and weights may not.
  complete(task, made): the task's options with the sizes that the made task found in its data.
  options(task): the part of the task's options that belongs to the weights, as plain values.
"""

from types import ModuleType

from jaxgraph.interop.exchange import moe, neurograph, vae

EXCHANGES: dict[str, ModuleType] = {"moe": moe, "neurograph": neurograph, "vae": vae}
