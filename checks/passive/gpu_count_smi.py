"""GPUs that `nvidia-smi` lists, against how many the node should have: one of three routes, see `gpu_count_pci`.

nvidia-smi does not tell for how long the driver has been up. So a low count has to last for the settling time of the driver
(`hold` of its row), whatever NVML says meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpu_counts import missing_of_driver, wanted_of_driver
from checks.passive.nvidia_smi import INTERVAL_S, QUERY, TIMEOUT_S, has_gpus, parse
from hma.check import Check, NoOptions, Output
from hma.model import NodeFacts, Observation, Status

CODE = "GPU-COUNT-SMI"
NODE = "node"


def observe(sample: Output, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Compare the list with the instance type, or, where that is not known, with the PCI bus at start."""
    known = wanted_of_driver(node)
    if known is None:
        return
    wanted, source = known
    listing = parse(sample)
    seen = len({row.values[0] for row in listing.rows})
    # None at all while the bus shows some is a driver without GPUs: nvidia_smi tells that.
    none_found = not node.gpus and any("No devices were found" in text for text in listing.texts)
    whole = sample.returncode == 0 and not sample.truncated and bool(seen)
    if seen < wanted and not (whole or none_found):
        # Not few GPUs but no list: counting a driver that is not up as eight lost GPUs has rebooted healthy nodes elsewhere.
        detail = f"nvidia-smi gave no whole list ({seen} of {wanted}, exit {sample.returncode}); see nvidia_smi"
        yield Observation(CODE, NODE, Status.UNKNOWN, detail)
        return
    attrs = (("expected", str(wanted)), ("seen", str(seen)))
    if seen >= wanted:
        yield Observation(CODE, NODE, Status.OK, attrs=attrs)
        return
    missing = missing_of_driver(node, {row.component for row in listing.rows})
    detail = f"nvidia-smi lists {seen} of {wanted} GPUs ({source})" + (f", not {missing}" if missing else "")
    evidence = "\n".join((*listing.texts, *(row.line for row in listing.rows)))[:4_000]
    yield Observation(CODE, NODE, Status.FAILED, detail, evidence, attrs=(*attrs, ("missing", missing)))


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
