"""A replica's keys beside the inventory: made once, private, gone with the replica."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flagprov.site import Site


def test_keys_are_made_once_and_go_with_the_replica(tmp_path: Path) -> None:
    site = Site(tmp_path / ".flagprov")
    keys = site.runner_keys("m-0", ["a"])
    assert site.runner_keys("m-0", ["a"]) == keys
    assert site.runner_keys("m-1", ["b"]) != keys
    path = site.root / "runner" / "m-0.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert site.root.stat().st_mode & 0o777 == 0o700
    site.save_deployed({"m-1": {"release": "m", "hosts": ["b"]}})
    site.forget("other", ["a", "b"])
    assert site.runner_keys("m-0", ["a"]) == keys
    site.forget(None, ["c"])  # another fleet of the same site
    assert site.runner_keys("m-0", ["a"]) == keys
    site.forget("m", ["a"])  # never came up: its file alone says where it was to be
    assert not path.exists()
    assert (site.root / "runner" / "m-1.json").exists()
    site.forget(None, ["b"])
    assert not (site.root / "runner" / "m-1.json").exists()


def test_all_hosts_of_a_replica_get_the_same_keys(tmp_path: Path) -> None:
    site = Site(tmp_path / ".flagprov")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: site.runner_keys("m-0", ["a"]), range(32)))
    assert set(found) == {site.runner_keys("m-0", ["a"])}
    assert (site.root / "runner" / "m-0.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (site.root / "runner").iterdir()] == ["m-0.json"]
