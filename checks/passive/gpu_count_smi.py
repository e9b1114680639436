"""GPUs that `nvidia-smi` lists, against how many the node should have: one of two routes, see `gpu_count_pci`."""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive.nvidia_smi import INTERVAL_S, QUERY, TIMEOUT_S, has_gpus, parse
from hma.check import Check, NoOptions, Output
from hma.model import NodeFacts, Observation, Status

CODE = "GPU-COUNT-SMI"
NODE = "node"


def observe(sample: Output, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Compare the list with the instance type, or, where that is not known, with the PCI bus at start."""
    wanted, source = _wanted(node)
    if wanted is None:
        return
    listing = parse(sample)
    none_found = any("No devices were found" in text for text in listing.texts)
    if not (listing.rows or none_found):
        # Not zero GPUs but no list: counting a driver that is not up as eight lost GPUs has rebooted healthy nodes elsewhere.
        yield Observation(CODE, NODE, Status.UNKNOWN, f"nvidia-smi gave no list (exit {sample.returncode}); see nvidia_smi")
        return
    seen = len(listing.rows)
    attrs = (("expected", str(wanted)), ("seen", str(seen)))
    if seen >= wanted:
        yield Observation(CODE, NODE, Status.OK, attrs=attrs)
        return
    listed = {row.component for row in listing.rows}
    absent = [f"gpu:{gpu.address.rpartition('.')[0]}" for gpu in node.gpus]
    missing = " ".join(component for component in absent if component not in listed)
    detail = f"nvidia-smi lists {seen} of {wanted} GPUs ({source})" + (f", not {missing}" if missing else "")
    evidence = "\n".join((*listing.texts, *(row.line for row in listing.rows)))
    yield Observation(CODE, NODE, Status.FAILED, detail, evidence, attrs=(*attrs, ("missing", missing)))


def _wanted(node: NodeFacts) -> tuple[int | None, str]:
    if node.expected is not None and node.expected.gpus is not None:
        return node.expected.gpus, f"instance type {node.expected.instance_type}"
    return (len(node.gpus), "PCI bus at start") if node.gpus else (None, "")


CHECK: Check[Output, NoOptions] = Check(
    name="gpu_count_smi",
    title="nvidia-smi lists every GPU",
    source=QUERY,
    observe=observe,
    codes=frozenset({CODE}),
    interval_s=INTERVAL_S,
    timeout_s=TIMEOUT_S,
    applies=has_gpus,
    needs="NVIDIA GPUs and the program nvidia-smi",
    optional=True,
)
