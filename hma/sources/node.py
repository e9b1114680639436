"""What this node is: its boot, its name, its instance type, what is on its PCI bus and what should be.

Rules of this file:
- Nothing here waits: kernel files, and one small file of the root disk only where they leave something open.
  The metadata service is asked by a child (`hma.sources.imds`); its answer is added later by `with_imds`.
- Routes, most trusted first: config, imds, dmi, resource_config. The first one that tells wins.
- `NodeFacts.sources` holds under a fact's name the route that told it, under `<fact>.conflict` what another route says
  instead, and under `<route or fact>.error` why one could not be read. An empty `pci` without `sources["pci"]` = not known.
- What is not known stays None (or empty); nothing raises.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hma.check import NotInstalled, SourceError
from hma.instance_types import canonical, expected
from hma.model import NodeFacts, PciDevice
from hma.sources.imds import SHAPES
from hma.sources.pci import read_pci

BOOT_ID = "proc/sys/kernel/random/boot_id"
HOSTNAME = "proc/sys/kernel/hostname"
KERNEL = "proc/sys/kernel/osrelease"
DMI = "sys/class/dmi/id"
RESOURCE_CONFIG = "opt/ml/config/resource_config.json"
MAX_RESOURCE_CONFIG = 4 * 1_048_576
"""A cluster of a thousand nodes writes about 200 KiB."""

TRUST = ("config", "imds", "dmi", "resource_config")


@dataclass(frozen=True, slots=True)
class Membership:
    """This node's place in its HyperPod cluster, as `resource_config.json` tells; empty = not told."""

    cluster_name: str = ""
    cluster_arn: str = ""
    group: str = ""
    instance_name: str = ""
    instance_id: str = ""
    instance_type: str = ""


def read_node(
    root: Path,
    *,
    hostname: str = "",
    instance_type: str = "",
    instance_id: str = "",
    imds: Mapping[str, str] | None = None,
) -> NodeFacts:
    """Return the facts of the node whose file system is at `root`; the keywords are what the config says, empty = nothing."""
    pci, sources = _pci(root)
    boot_id, name, kernel = _first_line(root, BOOT_ID), _first_line(root, HOSTNAME), _first_line(root, KERNEL)
    if hostname or name:
        sources["hostname"] = "config" if hostname else "kernel"
    facts = NodeFacts(hostname=hostname or name, boot_id=boot_id, pci=pci, kernel=kernel, sources=sources)
    facts = _told(facts, "config", instance_type, instance_id)
    facts = _told(facts, "dmi", *_dmi(root))
    if facts.instance_type is None or facts.instance_id is None:
        facts = _from_resource_config(facts, root)
    return with_imds(facts, imds) if imds else facts


def with_imds(facts: NodeFacts, imds: Mapping[str, str]) -> NodeFacts:
    """Return the facts with what the metadata service answered; a fact of the config stays, a weaker route's is replaced."""
    return _told(facts, "imds", imds.get("instance-type", ""), imds.get("instance-id", ""))


def read_membership(root: Path, *, hostname: str = "", instance_id: str = "") -> Membership | None:
    """Return this node's entry of HyperPod's `resource_config.json`, None where it names no such node.

    The node is known by its instance id, by a host name that holds the id (`hyperpod-i-0abc…`) or by one made of its
    address (`ip-10-1-2-3`). Raises NotInstalled where the file is missing, SourceError where it cannot be used.
    """
    import json

    path = root / RESOURCE_CONFIG
    try:
        config = json.loads(_read_small_file(path, MAX_RESOURCE_CONFIG))
        found = next(_entries(config, hostname, instance_id), None)
    except FileNotFoundError:
        raise NotInstalled(f"{path}: not there") from None
    except OSError as err:
        raise SourceError(f"{path}: {err.strerror or err}") from err
    except (ValueError, RecursionError) as err:
        raise SourceError(f"{path}: not JSON") from err
    except (AttributeError, KeyError, TypeError) as err:
        raise SourceError(f"{path}: not in the form that HyperPod writes") from err
    return found


# -- one fact, several routes -----------------------------------------------------------------------------------------


def _told(facts: NodeFacts, route: str, instance_type: str, instance_id: str) -> NodeFacts:
    """Return the facts after `route` has told both (empty = it does not say)."""
    sources = dict(facts.sources)
    type_now = _weigh(sources, "instance_type", facts.instance_type, route, canonical(instance_type))
    id_now = _weigh(sources, "instance_id", facts.instance_id, route, instance_id.strip())
    # What the operator wrote wins, but not as the measure of what is broken where the machine itself says otherwise.
    doubtful = sources.get("instance_type") == "config" and "instance_type.conflict" in sources
    should = None if doubtful else expected(type_now)
    return replace(facts, instance_type=type_now, instance_id=id_now, expected=should, sources=sources)


def _weigh(sources: dict[str, str], fact: str, value: str | None, route: str, said: str) -> str | None:
    """Return the more trusted of two values of one fact and note in `sources` whose it is and who disagrees."""
    if not said:
        return value
    before = sources.get(fact)
    if value is None or before is None:
        sources[fact] = route
        return said
    wins = TRUST.index(route) <= TRUST.index(before)
    chosen, other = ((said, route), (value, before)) if wins else ((value, before), (said, route))
    if said != value:
        notes = [f"{chosen[1]} says {chosen[0]}, {other[1]} says {other[0]}"]
        notes += [note for note in sources.get(f"{fact}.conflict", "").split("; ") if note and note != notes[0]]
        sources[f"{fact}.conflict"] = "; ".join(notes)
    sources[fact] = chosen[1]
    return chosen[0]


# -- routes -----------------------------------------------------------------------------------------------------------


def _pci(root: Path) -> tuple[tuple[PciDevice, ...], dict[str, str]]:
    try:
        return read_pci(root), {"pci": "sysfs"}
    except SourceError as err:
        return (), {"pci.error": str(err)}


def _dmi(root: Path) -> tuple[str, str]:
    """Return instance type and id as Nitro writes them into the DMI table, empty on any other machine.

    Older (Xen) instances are called "HVM domU" there, so a value counts only in its proper shape.
    """
    if _first_line(root, f"{DMI}/sys_vendor") != "Amazon EC2":
        return "", ""
    product, tag = _first_line(root, f"{DMI}/product_name"), _first_line(root, f"{DMI}/board_asset_tag")
    return (
        product if SHAPES["instance-type"].fullmatch(product) else "",
        tag if SHAPES["instance-id"].fullmatch(tag) else "",
    )


def _from_resource_config(facts: NodeFacts, root: Path) -> NodeFacts:
    try:
        mine = read_membership(root, hostname=facts.hostname, instance_id=facts.instance_id or "")
    except NotInstalled:
        return facts
    except SourceError as err:
        return replace(facts, sources={**facts.sources, "resource_config.error": str(err)})
    if mine is None:
        reason = f"{root / RESOURCE_CONFIG}: does not name this node ({facts.hostname or 'no host name'})"
        return replace(facts, sources={**facts.sources, "resource_config.error": reason})
    return _told(facts, "resource_config", mine.instance_type, mine.instance_id)


def _entries(config: Any, hostname: str, instance_id: str) -> Iterator[Membership]:
    cluster = config.get("ClusterConfig") or {}
    for group in config["InstanceGroups"]:
        for instance in group.get("Instances") or ():
            if not _is_this_node(instance, hostname, instance_id):
                continue
            yield Membership(
                cluster_name=str(cluster.get("ClusterName") or ""),
                cluster_arn=str(cluster.get("ClusterArn") or ""),
                group=str(group.get("Name") or ""),
                instance_name=str(instance.get("InstanceName") or ""),
                instance_id=str(instance.get("InstanceId") or ""),
                instance_type=canonical(str(group.get("InstanceType") or "")),
            )


def _is_this_node(instance: Any, hostname: str, instance_id: str) -> bool:
    theirs = str(instance.get("InstanceId") or "")
    if instance_id:
        return theirs == instance_id
    host = hostname.lower().partition(".")[0]
    if theirs and host in (theirs, f"hyperpod-{theirs}"):
        return True
    address = str(instance.get("CustomerIpAddress") or "")
    return bool(address) and host == "ip-" + address.replace(".", "-")


# -- files ------------------------------------------------------------------------------------------------------------


def _first_line(root: Path, path: str) -> str:
    """Return the first line of a kernel file, empty when it cannot be read."""
    try:
        fd = os.open(root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(fd, 4_096).decode("utf-8", "replace").partition("\n")[0].strip()
    except OSError:
        return ""
    finally:
        os.close(fd)


def _read_small_file(path: Path, limit: int) -> bytes:
    """Return a regular file's bytes; raises OSError, also when it is no regular file or longer than `limit`."""
    # O_NONBLOCK: opening a named pipe in its place must not wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("not a regular file")
        text = file.read(limit + 1)
    if len(text) > limit:
        raise OSError(f"longer than {limit} bytes")
    return text
