"""A manifest that is made to take time or memory is refused in one line; what people write is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eccos_aios.core import read_manifest, read_yaml
from eccos_aios.errors import ConfigError

NESTED = range(1, 12)
BOMBS = {
    "lists": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in NESTED)
    + "cores: *a11\n",
    "mappings": "a0: &a0 {k: x}\n"
    + "".join(f"a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in range(9))}}}\n" for n in NESTED)
    + "cores: [*a11]\n",
    "merged": "a0: &a0 {b: 1, c: 2}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in NESTED)
    + "cores: []\n",
    "keys": "a0: &a0 [x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} {{? [{', '.join([f'*a{n - 1}'] * 9)}] : 1}}\n" for n in NESTED),
    "itself": "cores: &a [*a]\n",
    "itself, deeper": "cores: &a {b: [1, {c: *a}]}\n",
    "deep lists": "cores: " + "[" * 100_000,
    "deep mappings": "cores: " + "{a: " * 50_000,
    "deep items": "cores:\n" + "- " * 100_000,
    "indented": "\n".join(" " * depth + "a:" for depth in range(600)),
    "digits": "cores: " + "1" * 400_000,
    "hexadecimal": "cores: 0x" + "f" * 60_000,
    "base sixty": "cores: " + ":".join(["1"] * 30_000),
    "many": "cores: [" + "x," * 200_000 + "]",
    "long": "cores: '" + "x" * 300_000 + "'",
    "huge": "# " + "x" * 3_000_000,
}


# Read one after the other in a process of its own, which may not have more than some memory and seconds.
READ_ALL = """
import json, sys
from pathlib import Path
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
except ImportError:
    pass
from eccos_aios.core import read_manifest
from eccos_aios.errors import ConfigError
for path in sys.argv[1:]:
    try:
        read_manifest(Path(path))
    except ConfigError as error:
        print(json.dumps([path, str(error)]), flush=True)
"""


@pytest.mark.integration
def test_a_bomb_is_refused_in_one_line_at_little_cost(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in BOMBS]
    for path, bomb in zip(paths, BOMBS.values(), strict=True):
        path.write_text(bomb)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *paths],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert list(told) == [str(path) for path in paths], done.stderr
    for path, error in told.items():
        assert error.startswith(f"{path}: ")
        assert "\n" not in error
        assert len(error) < 1000


@pytest.mark.parametrize(
    "value", ['!!int ""', "!!bool maybe", "!!timestamp soon", "!!float much", "!!omap [1]", "2024-99-99"]
)
def test_a_value_that_is_not_what_its_tag_says_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "cores.yaml"
    path.write_text(f"cores: {value}\n")
    with pytest.raises(ConfigError, match=r"cores\.yaml: is not YAML: "):
        read_manifest(path)


def test_anchors_and_aliases_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "cores.yaml"
    path.write_text(
        "cores:\n"
        "  - &first {name: a, quota: 3, price: &dear {input: 1, output: 2}}\n"
        "  - {<<: *first, name: b}\n"
        "  - {name: c, price: *dear}\n"
    )
    first, second, third = read_manifest(path).cores
    assert (second.quota, second.price) == (first.quota, first.price)
    assert (third.quota, third.price) == (None, first.price)


def test_a_thousand_cores_of_one_price_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cores.yaml"
    cores = "".join(f"  - {{name: core-{n}, quota: 2, price: *price}}\n" for n in range(1000))
    path.write_text("cores:\n  - {name: first, price: &price {input: 1, output: 2}}\n" + cores)
    assert len(read_manifest(path).cores) == 1001


def test_a_byte_order_mark_and_windows_lines_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfscheduler:\r\n  log_mode: console\r\n")
    assert read_yaml(path) == {"scheduler": {"log_mode": "console"}}
