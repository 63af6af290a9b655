from pathlib import Path

import pytest

from compute.machine import Machine, MachineMemory

MIB = 1 << 20
MEMINFO = "MemTotal:  8192 kB\nMemFree:   1024 kB\nMemAvailable:   4096 kB\n"
UNLIMITED_V1 = 0x7FFFFFFFFFFFF000


def machine(root: Path, groups: str, files: dict[str, str]) -> MachineMemory:
    for path, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": groups, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Machine(root)()


def v2(folder: str, limit: object, used: int, file_pages: int = 0) -> dict[str, str]:
    stat = f"anon 5\nfile 9\ninactive_file {file_pages}\nactive_file 7\n"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": stat,
    }


def v1(folder: str, limit: int, used: int, file_pages: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {file_pages}\n",
    }


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("", {}, (8 * MIB, 4 * MIB), id="no groups"),
        pytest.param("0::/\n", {}, (8 * MIB, 4 * MIB), id="the root group, which has no limit"),
        pytest.param("0::/\n", v2("sys/fs/cgroup", "max", 5), (8 * MIB, 4 * MIB), id="no limit"),
        pytest.param("0::/\n", v2("sys/fs/cgroup", 3 * MIB, MIB), (3 * MIB, 2 * MIB), id="a container's own view"),
        pytest.param(
            "0::/\n", v2("sys/fs/cgroup", 3 * MIB, 3 * MIB, MIB), (3 * MIB, MIB), id="file pages can be dropped"
        ),
        pytest.param(
            "0::/\n",
            v2("sys/fs/cgroup", 7 * MIB, MIB),
            (7 * MIB, 4 * MIB),
            id="the machine has less than the limit",
        ),
        pytest.param(
            "0::/a/b\n",
            v2("sys/fs/cgroup/a/b", "max", 0) | v2("sys/fs/cgroup/a", 2 * MIB, MIB),
            (2 * MIB, MIB),
            id="the limit of an outer group",
        ),
        pytest.param(
            "0::/docker/0123\n", v2("sys/fs/cgroup", 2 * MIB, MIB), (2 * MIB, MIB), id="a path of the host's"
        ),
        pytest.param(
            "0::/\n",
            v2("sys/fs/cgroup", 2 * MIB, 3 * MIB),
            (2 * MIB, 0),
            id="more in use than a limit that was lowered",
        ),
        pytest.param(
            "9:cpu,memory:/x\n0::/\n",
            v1("sys/fs/cgroup/memory/x", 3 * MIB, 2 * MIB, MIB) | v1("sys/fs/cgroup/memory", UNLIMITED_V1, 0),
            (3 * MIB, 2 * MIB),
            id="version 1",
        ),
    ],
)
def test_a_control_groups_limit_counts_where_it_is_lower(tmp_path, groups, files, expected):
    assert machine(tmp_path, groups, files) == MachineMemory(*expected)


def test_this_machine_can_be_read():
    memory = Machine()()
    assert 0 < memory.available <= memory.total
