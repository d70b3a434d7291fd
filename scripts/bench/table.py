"""What the benchmark prints."""

from typing import Any

from bench.rates import PEAKS

NOTES = """\
ours, reference: median ms [min-max]; ratio: reference / ours, above 1 means ours is faster.
train, and all rows of vae: one optimiser step (forward, backward, Adam). Rows of neurograph: one
sample (faithful), one batch (learning); of latentwire: see --help, a token when decoding,
whose loop's body counts as one pass. forward, predict: a batch
without gradients. per second: tokens or samples of ours. peak: largest resident MB of a row's fresh
process, ours / reference (on a GPU: device memory). compile: of our measured program; it and the
warm-up are not part of the times.
"""
HEAD = (
    f"{'row':27}{'ours':>22}{'reference':>22}{'ratio':>7}{'per second':>12}{'peak MB':>15}"
    f"{'compile':>9}"
)


def as_line(result: dict[str, Any]) -> str:
    """A row of the table, and what is to be said about it below."""
    name = f"{result['name']:27}"
    if "error" in result:
        return f"{name}error: {result['error']}"
    both = result["reference_ms"] is not None
    peaks = [f"{result[f'{side}_peak_mb']:.0f}" for side in ("ours", "reference")[: 1 + both]]
    line = f"{name}{_times(result, 'ours')}{_times(result, 'reference') if both else '-':>22}"
    line += f"{result['ratio']:7.2f}" if both else f"{'-':>7}"
    line += f"{result['per_second']:12,.0f}{' / '.join(peaks):>15}{result['compile_s']:8.1f}s"
    notes = []
    if any(result.get("passes") or []):
        notes.append("passes of the language model: {} / {}".format(*result["passes"]))
    if "rival" in result:
        notes.append(
            f"{result['rival_times']:.2f} x {result['rival']} "
            f"({_times(result, 'rival').strip()} ms), {result['rival_times_peak']:.2f} x its memory"
        )
    elif result["note"]:
        notes.append(f"no reference: {result['note']}")
    if result["bytes_per_second"]:
        notes.append(f"memory traffic at least {result['bytes_per_second'] / 1e9:.0f} GB/s")
    if result["mfu"] is not None:
        peak = PEAKS[result["device"]][result["dtype"]]
        notes.append(f"MFU {result['mfu']:.1%} of {peak / 1e12:.0f} TFLOP/s ({result['device']})")
    elif result["bytes_per_second"]:
        notes.append(f"no MFU: the peak rate of {result['device']} is not known here")
    return "\n".join([line, *(f"  {note}" for note in notes)])


def _times(result: dict[str, Any], side: str) -> str:
    low, high = result[f"{side}_min_ms"], result[f"{side}_max_ms"]
    return f"{result[f'{side}_ms']:.1f} [{low:.0f}-{high:.0f}]".rjust(22)
