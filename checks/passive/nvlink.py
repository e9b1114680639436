"""NVLink: whether every GPU has the links that it should have, and how often they failed.

Rules of this file:
- How many links should be up stands in the table of instance types. Where it does not, links that are down are told and prove
  nothing: a part may have more links than the board connects (four V100 of a p3.8xlarge, the one H100 of a p5.4xlarge).
- With MIG on, the driver shows links as down, and with a fabric that is still coming up they are: neither is a fault.
- Error counters are not zero on healthy nodes. Each is told as a count, and only its growth is a fault.
- NVLINK-DOWN is also told as fine, GPU by GPU: a link that is up again speaks against an NVLink error of the kernel log.
- A bit error rate is packed: the exponent in bits 0-7, the mantissa in bits 8-11, m * 10^-e (DCGM 4.6, NvmlBerParser).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from checks.passive._gpus import component, has_gpus, look
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Gpu, GpuReadings, Link
from hma.model import NodeFacts, Observation, Status

DOWN = "NVLINK-DOWN"
INACTIVE = "NVLINK-INACTIVE"
BER = "NVLINK-BER"
COUNTERS: tuple[tuple[str, str, Callable[[Link], int | None]], ...] = (
    ("NVLINK-REPLAY", "replays", lambda link: link.replay),
    # NVLink 5 tells recoveries that worked and those that did not; before, one count of both.
    ("NVLINK-RECOVERY", "recoveries", lambda link: link.recovery if link.recovery_ok is None else link.recovery_ok),
    ("NVLINK-RECOVERY-FAILED", "failed recoveries", lambda link: link.recovery_failed),
    ("NVLINK-CRC", "CRC errors", lambda link: link.crc),
)
"""Code, what it counts, and the count of one link."""

BER_DIGITS = 12  # more than 1e-12 is too much: the threshold of DCGM 4.6 for the effective rate
FABRIC_COMING_UP = (1, 2)


def has_nvlinks(node: NodeFacts) -> bool:
    """Return whether there are GPUs, and not of a type without NVLink."""
    return has_gpus(node) and _expected(node) != 0


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell of each GPU which links are down, the sums of its error counters, and links with too many bit errors."""
    expected = _expected(node)

    def links_of(gpu: Gpu) -> tuple[Link, ...] | None:
        none_though_expected = gpu.links is None and expected and "links" not in gpu.errors
        return () if none_though_expected else gpu.links

    seen = look(sample, node, DOWN, "links", links_of)
    for gpu, links in seen.parts:
        if expected is not None or len(sample.gpus) > 1:
            yield from _states(gpu, links, expected)
        yield from _counts(gpu, links)
        yield from _bit_errors(gpu, links)
    yield from seen.grey


def _expected(node: NodeFacts) -> int | None:
    return node.expected.nvlinks_per_gpu if node.expected else None


def _states(gpu: Gpu, links: tuple[Link, ...], expected: int | None) -> Iterator[Observation]:
    if gpu.mig:
        return
    down = [link.number for link in links if link.up is False]
    up = sum(link.up is True for link in links)
    place = component(gpu)
    named = f"down: {', '.join(map(str, down))}"
    attrs = (("up", str(up)), ("expected", "" if expected is None else str(expected)), ("down", " ".join(map(str, down))))
    if expected is None:
        if down:
            yield Observation(INACTIVE, place, Status.DEGRADED, f"{up} of {len(links)} NVLinks up; {named}", attrs=attrs)
    elif not links:
        detail = f"the driver shows no NVLink, {expected} expected"
        yield Observation(INACTIVE, place, Status.DEGRADED, detail, attrs=attrs)
    elif not down and up < expected and (why := gpu.errors.get("links")):
        yield Observation(DOWN, place, Status.UNKNOWN, f"{up} of {expected} NVLinks up, of the rest nothing is known: {why}")
    elif len(links) - len(down) >= expected:
        yield Observation(DOWN, place, Status.OK, f"{up} of {expected} NVLinks up")
    elif gpu.fabric is not None and gpu.fabric.state in FABRIC_COMING_UP:
        detail = f"{up} of {expected} NVLinks up while the fabric is coming up (state {gpu.fabric.state}); see fabric"
        yield Observation(DOWN, place, Status.UNKNOWN, detail)
    else:
        lacking = "" if down else f"the driver shows only {len(links)}"
        detail = f"{up} of {expected} NVLinks up; {named if down else lacking}"
        yield Observation(DOWN, place, Status.FAILED, detail, attrs=attrs)


def _counts(gpu: Gpu, links: tuple[Link, ...]) -> Iterator[Observation]:
    place = component(gpu)
    for code, what, count_of in COUNTERS:
        counts = [count_of(link) for link in links]
        told = [count for count in counts if count is not None]
        if told:
            total = sum(told)
            detail = f"{total} {what} since the driver was loaded"
            if total:
                where = (f"link {link.number}: {count}" for link, count in zip(links, counts, strict=True) if count)
                detail += f" ({', '.join(where)})"
            yield Observation(code, place, Status.OK, detail, counter=total)


def _bit_errors(gpu: Gpu, links: tuple[Link, ...]) -> Iterator[Observation]:
    if not any(link.symbol_ber or link.effective_ber for link in links):
        return
    bad = {
        link.number: f"link {link.number}: {name} {_shown(raw)}"
        for link in links
        for name, raw in (("symbol", link.symbol_ber), ("effective", link.effective_ber))
        if raw is not None and _too_many(raw)
    }
    if bad:
        attrs = (("links", " ".join(map(str, bad))),)
        yield Observation(BER, component(gpu), Status.DEGRADED, f"bit error rate {', '.join(bad.values())}", attrs=attrs)


def _unpacked(raw: int) -> tuple[int, int]:
    return raw >> 8 & 0xF, raw & 0xFF


def _too_many(raw: int) -> bool:
    mantissa, exponent = _unpacked(raw)
    return bool(mantissa * 10**BER_DIGITS > 10**exponent)


def _shown(raw: int) -> str:
    mantissa, exponent = _unpacked(raw)
    return f"{mantissa}e-{exponent}"


CHECK: Check[GpuReadings, NoOptions] = Check(
    name="nvlink",
    title="The NVLinks of every GPU are up and free of errors",
    source=Nvml(),
    observe=observe,
    codes=frozenset({DOWN, INACTIVE, BER, *(code for code, _, _ in COUNTERS)}),
    applies=has_nvlinks,
    needs="NVIDIA GPUs with NVLink",
    complete=True,
    optional=True,
)
