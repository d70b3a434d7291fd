"""How thoroughly a trained model is examined."""

from dataclasses import dataclass

from jaxgraph.fields import Count, Positive


@dataclass(frozen=True)
class Evaluation:
    """What `scripts/evaluate.py` spends on a run."""

    samples: Positive = 64
    """Latents a row for the importance-weighted bound of log p."""
    rows: Count = 0
    """Rows of the judged split that are looked at; 0 takes all."""
    probe_rows: Count = 20_000
    """Training rows that probes are fitted on, of which the last tenth chooses their penalty or
    epoch; 0 takes all."""
    permutations: Positive = 1000
    """Shuffles of the labels for each p-value of a probe; a fifth of it for each of J."""
