"""What a node says of itself: which route is believed, what stays unknown, and that nothing is made up."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from checks.passive.gpu_count_pci import CHECK as GPU_COUNT_PCI
from checks.passive.nvidia_smi import has_gpus
from hma.check import NotInstalled, SourceError, Tree
from hma.cli.simulated_node import BOOT_ID, HOSTNAME, INSTANCE_ID, KERNEL, build, write
from hma.model import Status
from hma.sources.node import (
    DMI,
    MAX_RESOURCE_CONFIG,
    RESOURCE_CONFIG,
    Membership,
    read_membership,
    read_node,
    with_imds,
)

DATA = Path(__file__).parents[1] / "data/hyperpod"
SLURM = (DATA / "resource_config-slurm.json").read_text()
EKS = (DATA / "resource_config-eks.json").read_text()
IMDS = {"instance-type": "p5.48xlarge", "instance-id": INSTANCE_ID, "region": "us-west-2"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a node that calls itself p5.48xlarge and has a small bus: writing a whole one takes its time."""
    build(tmp_path, "g5.12xlarge")
    write(tmp_path, {f"{DMI}/product_name": "p5.48xlarge\n"})
    return tmp_path


def without_dmi(root: Path) -> Path:
    shutil.rmtree(root / DMI)
    return root


def with_config(root: Path, text: str) -> Path:
    write(root, {RESOURCE_CONFIG: text})
    return root


# -- a healthy node ---------------------------------------------------------------------------------------------------


def test_a_whole_node(tmp_path: Path) -> None:
    build(tmp_path, "p5.48xlarge")
    node = read_node(tmp_path)
    assert (node.hostname, node.boot_id, node.kernel) == (HOSTNAME, BOOT_ID, KERNEL)
    assert (node.instance_type, node.instance_id) == ("p5.48xlarge", INSTANCE_ID)
    assert node.expected is not None
    assert (node.expected.gpus, len(node.gpus), len(node.nvswitches), len(node.efas)) == (8, 8, 4, 32)
    assert node.sources == {"pci": "sysfs", "hostname": "kernel", "instance_type": "dmi", "instance_id": "dmi"}


def test_nothing_at_all_is_nothing_known(tmp_path: Path) -> None:
    node = read_node(tmp_path)
    assert (node.hostname, node.boot_id, node.kernel) == ("", "", "")
    assert (node.instance_type, node.instance_id, node.expected, node.pci) == (None, None, None, ())
    assert set(node.sources) == {"pci.error"}


def test_reads_this_machine() -> None:
    node = read_node(Path("/"))
    assert node.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert node.hostname == os.uname().nodename
    assert node.kernel == os.uname().release


# -- routes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "imds", "dmi", "resource_config", "instance_type", "route"),
    [
        ("", "", "", "", None, None),
        ("", "", "", "p5.48xlarge", "p5.48xlarge", "resource_config"),
        ("", "", "p4d.24xlarge", "p5.48xlarge", "p4d.24xlarge", "dmi"),
        ("", "p5e.48xlarge", "p4d.24xlarge", "p5.48xlarge", "p5e.48xlarge", "imds"),
        ("g5.xlarge", "p5e.48xlarge", "p4d.24xlarge", "p5.48xlarge", "g5.xlarge", "config"),
        ("g5.xlarge", "", "", "p5.48xlarge", "g5.xlarge", "config"),
        ("", "p5e.48xlarge", "", "p5.48xlarge", "p5e.48xlarge", "imds"),
        ("ml.g5.xlarge", "", "", "", "g5.xlarge", "config"),
    ],
)
def test_the_most_trusted_route_wins(
    tmp_path: Path, config: str, imds: str, dmi: str, resource_config: str, instance_type: str | None, route: str | None
) -> None:
    if dmi:
        write(tmp_path, {f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": f"{dmi}\n"})
    if resource_config:
        with_config(tmp_path, SLURM.replace("ml.p5.48xlarge", f"ml.{resource_config}"))
    write(tmp_path, {"proc/sys/kernel/hostname": "ip-10-1-2-3\n"})
    node = read_node(tmp_path, instance_type=config, imds={"instance-type": imds} if imds else None)
    assert (node.instance_type, node.sources.get("instance_type")) == (instance_type, route)
    contradicted = route == "config" and bool(imds or dmi or resource_config)
    assert (node.expected.instance_type if node.expected else None) == (None if contradicted else instance_type)


def test_the_metadata_service_answers_later(root: Path) -> None:
    before = read_node(without_dmi(root))
    assert before.instance_type is None
    after = with_imds(before, IMDS)
    assert (after.instance_type, after.instance_id) == ("p5.48xlarge", INSTANCE_ID)
    assert after.expected is not None
    assert (after.pci, after.hostname) == (before.pci, before.hostname)
    assert before.sources == {"pci": "sysfs", "hostname": "kernel"}, "the facts before are not changed"


@pytest.mark.parametrize("answer", [{}, {"region": "us-west-2"}, {"instance-type": "", "instance-id": " "}])
def test_an_answer_without_the_facts_takes_none_away(root: Path, answer: dict[str, str]) -> None:
    before = read_node(root)
    assert with_imds(before, answer) == before


# -- conflicts --------------------------------------------------------------------------------------------------------


def test_routes_that_agree_are_no_conflict(root: Path) -> None:
    sources = read_node(with_config(root, SLURM), instance_type="ml.p5.48xlarge", imds=IMDS).sources
    assert not any("conflict" in key for key in sources)


@pytest.mark.parametrize(
    ("config", "conflict"),
    [
        ("", "imds says p5en.48xlarge, dmi says p5.48xlarge"),
        (
            "p4d.24xlarge",
            "config says p4d.24xlarge, imds says p5en.48xlarge; config says p4d.24xlarge, dmi says p5.48xlarge",
        ),
    ],
)
def test_who_disagrees_is_kept(root: Path, config: str, conflict: str) -> None:
    node = read_node(root, instance_type=config, imds={"instance-type": "p5en.48xlarge"})
    assert node.sources["instance_type.conflict"] == conflict
    assert node.instance_type == (config or "p5en.48xlarge")


def test_type_that_only_the_operator_believes_is_no_measure_of_what_is_broken(root: Path) -> None:
    node = read_node(root, instance_type="p4d.24xlarge")
    assert node.instance_type == "p4d.24xlarge"
    assert node.expected is None
    agreed = read_node(root, instance_type="p5.48xlarge", imds=IMDS).expected
    assert agreed is not None
    assert agreed.gpus == 8


def test_the_same_conflict_again_is_said_once(root: Path) -> None:
    node = read_node(root, instance_type="p4d.24xlarge")
    again = with_imds(with_imds(node, IMDS), IMDS)
    assert again.sources["instance_type.conflict"].count("imds says") == 1


# -- DMI --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "product", "tag", "expected"),
    [
        ("Amazon EC2", "p5.48xlarge", "i-0123456789abcdef0", ("p5.48xlarge", "i-0123456789abcdef0")),
        ("Amazon EC2", "trn2u.48xlarge", "i-01234567", ("trn2u.48xlarge", "i-01234567")),
        ("Xen", "HVM domU", "ec2a1b2c3", (None, None)),
        ("Amazon EC2", "HVM domU", "Not Specified", (None, None)),
        ("QEMU", "p5.48xlarge", "i-0123456789abcdef0", (None, None)),
        ("Amazon EC2", "", "", (None, None)),
        ("", "p5.48xlarge", "i-0123456789abcdef0", (None, None)),
    ],
)
def test_dmi_counts_only_on_nitro_and_in_its_proper_shape(
    tmp_path: Path, vendor: str, product: str, tag: str, expected: tuple[str | None, str | None]
) -> None:
    files = {"sys_vendor": vendor, "product_name": product, "board_asset_tag": tag}
    write(tmp_path, {f"{DMI}/{name}": f"{text}\n" for name, text in files.items()})
    node = read_node(tmp_path)
    assert (node.instance_type, node.instance_id) == expected


# -- unknown is unknown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instance_type", ["c7i.8xlarge", "p9.96xlarge", "Standard_ND96isr_H100_v5"])
def test_an_unknown_type_is_no_expectation(root: Path, instance_type: str) -> None:
    node = read_node(root, instance_type=instance_type)
    assert node.instance_type == instance_type.lower()
    assert node.expected is None


def test_a_type_without_gpus_expects_none_and_one_unknown_expects_nothing(tmp_path: Path) -> None:
    neuron = read_node(tmp_path, instance_type="trn1.32xlarge")
    assert neuron.expected is not None
    assert (neuron.expected.gpus, neuron.expected.neuron_devices) == (0, 16)
    assert not has_gpus(neuron)
    assert not has_gpus(read_node(tmp_path, instance_type="unknown.type"))


def test_a_bus_that_cannot_be_read_is_not_an_empty_bus(tmp_path: Path) -> None:
    node = read_node(tmp_path)
    assert node.pci == ()
    assert "pci" not in node.sources
    assert node.sources["pci.error"].endswith("not there, no PCI bus on this node (in a container: mount the node's /sys)")


def test_an_empty_bus_is_known(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    node = read_node(tmp_path)
    assert (node.pci, node.sources) == ((), {"pci": "sysfs"})


def test_an_unread_bus_makes_no_gpu_missing(tmp_path: Path) -> None:
    """The check on it applies where GPUs are expected, and cannot look: unknown, and not a count of zero."""
    node = read_node(tmp_path, instance_type="p5.48xlarge")
    assert GPU_COUNT_PCI.applies(node)
    assert {o.status for o in GPU_COUNT_PCI.observe(Tree({}, {}), node, GPU_COUNT_PCI.options)} == {Status.UNKNOWN}


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "config", "hostname", "route"),
    [
        ("ip-10-1-2-3\n", "", "ip-10-1-2-3", "kernel"),
        ("ip-10-1-2-3\n", "worker-7", "worker-7", "config"),
        ("", "worker-7", "worker-7", "config"),
        ("n1.cluster.local\nsecond line\n", "", "n1.cluster.local", "kernel"),
        ("", "", "", None),
    ],
)
def test_host_name(tmp_path: Path, kernel: str, config: str, hostname: str, route: str | None) -> None:
    write(tmp_path, {"proc/sys/kernel/hostname": kernel})
    node = read_node(tmp_path, hostname=config)
    assert (node.hostname, node.sources.get("hostname")) == (hostname, route)


@pytest.mark.parametrize("name", ["proc/sys/kernel/hostname", f"{DMI}/product_name"])
def test_a_pipe_or_a_directory_in_place_of_a_kernel_file_holds_nobody(root: Path, name: str) -> None:
    (root / name).unlink()
    os.mkfifo(root / name)
    assert read_node(root).boot_id == BOOT_ID
    (root / name).unlink()
    (root / name).mkdir()
    assert read_node(root).boot_id == BOOT_ID


# -- HyperPod ---------------------------------------------------------------------------------------------------------

WORKER = Membership(
    "ml-cluster",
    "arn:aws:sagemaker:us-west-2:111122223333:cluster/ab12cd34ef56",
    "worker-group-1",
    "worker-group-1-1",
    "i-0123456789abcdef0",
    "p5.48xlarge",
)


@pytest.mark.parametrize(
    ("hostname", "instance_id", "found"),
    [
        ("", "i-0123456789abcdef0", WORKER),
        ("whatever", "i-0123456789abcdef0", WORKER),
        ("hyperpod-i-0123456789abcdef0", "", WORKER),
        ("i-0123456789abcdef0", "", WORKER),
        ("ip-10-1-2-3", "", WORKER),
        ("IP-10-1-2-3.us-west-2.compute.internal", "", WORKER),
        ("ip-10-1-2-4", "i-0123456789abcdef0", WORKER),
        ("ip-10-1-2-3", "i-0ffffffffffffffff", None),
        ("ip-10-1-2-33", "", None),
        ("ip-172-16-67-11", "", None),
        ("worker-group-1-1", "", None),
        ("", "", None),
    ],
)
def test_a_node_finds_itself_in_its_cluster(tmp_path: Path, hostname: str, instance_id: str, found: Membership | None) -> None:
    assert read_membership(with_config(tmp_path, SLURM), hostname=hostname, instance_id=instance_id) == found


def test_the_eks_form_is_read_too(tmp_path: Path) -> None:
    found = read_membership(with_config(tmp_path, EKS), hostname="hyperpod-i-0123456789abcdef0")
    assert found is not None
    assert (found.group, found.instance_type) == ("accelerated-1", "trn1.32xlarge")


def config(**instance: object) -> str:
    return json.dumps({"InstanceGroups": [{"Name": "g", "InstanceType": "ml.p5.48xlarge", "Instances": [instance]}]})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (config(InstanceId="i-1"), Membership(group="g", instance_id="i-1", instance_type="p5.48xlarge")),
        ('{"ClusterConfig": null, "InstanceGroups": [{"Instances": [{"InstanceId": "i-1"}]}]}', Membership(instance_id="i-1")),
        ('{"InstanceGroups": [{"Instances": null}, {}]}', None),
        ('{"InstanceGroups": []}', None),
        (config(InstanceId=None, CustomerIpAddress=None), None),
    ],
)
def test_what_the_file_does_not_say_stays_empty(tmp_path: Path, text: str, found: Membership | None) -> None:
    assert read_membership(with_config(tmp_path, text), instance_id="i-1") == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\x00" * 50, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not in the form that HyperPod writes"),
        ("null", "not in the form that HyperPod writes"),
        ("{}", "not in the form that HyperPod writes"),
        ('{"InstanceGroups": 7}', "not in the form that HyperPod writes"),
        ('{"InstanceGroups": [7]}', "not in the form that HyperPod writes"),
        ('{"InstanceGroups": [{"Instances": [7]}]}', "not in the form that HyperPod writes"),
        ('{"ClusterConfig": [], "InstanceGroups": [{"Instances": {"a": 1}}]}', "not in the form that HyperPod writes"),
        (" " * (MAX_RESOURCE_CONFIG + 1), f"longer than {MAX_RESOURCE_CONFIG} bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_changes_no_other_fact(root: Path, text: str, told: str) -> None:
    with_config(without_dmi(root), text)
    with pytest.raises(SourceError, match=told):
        read_membership(root, hostname=HOSTNAME)
    node = read_node(root)
    assert node.instance_type is None
    assert node.sources["resource_config.error"].endswith(told)
    assert len(node.gpus) == 4


def test_a_pipe_in_its_place_holds_nobody(root: Path) -> None:
    place = without_dmi(root) / RESOURCE_CONFIG
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    assert read_node(root).sources["resource_config.error"] == f"{place}: not a regular file"


def test_no_file_is_no_hyperpod(root: Path) -> None:
    with pytest.raises(NotInstalled):
        read_membership(root)
    assert "resource_config.error" not in read_node(without_dmi(root)).sources


def test_a_file_that_does_not_name_this_node_says_so(root: Path) -> None:
    write(without_dmi(root), {"proc/sys/kernel/hostname": "ip-10-9-9-9\n", RESOURCE_CONFIG: SLURM})
    node = read_node(root)
    assert node.sources["resource_config.error"] == f"{root / RESOURCE_CONFIG}: does not name this node (ip-10-9-9-9)"


def test_the_disk_is_left_alone_where_the_kernel_has_said_all(root: Path) -> None:
    with_config(root, "{")
    assert "resource_config.error" not in read_node(root).sources


def test_what_dmi_left_open_the_file_tells(root: Path) -> None:
    (root / DMI / "board_asset_tag").unlink()
    node = read_node(with_config(root, SLURM))
    assert (node.instance_id, node.sources["instance_id"], node.sources["instance_type"]) == (
        INSTANCE_ID,
        "resource_config",
        "dmi",
    )
