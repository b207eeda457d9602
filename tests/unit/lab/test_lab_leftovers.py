"""Finding and ending what a killed lab command left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flagprov.lab.layout import Layout
from flagprov.lab.leftovers import end_processes, remove
from flagprov.lab.shell import MARK


def test_only_the_processes_of_this_checkout_are_ended(tmp_path: Path) -> None:
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    started = [
        subprocess.Popen(waiting, stdin=subprocess.PIPE, env={**os.environ, MARK: str(root)})
        for root in (tmp_path, tmp_path / "another")
    ]
    ours, theirs = started
    try:
        assert end_processes(Layout(tmp_path)) == 1
        assert ours.wait(10) != 0
        assert theirs.poll() is None
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_tree_and_a_link_are_removed(tmp_path: Path) -> None:
    tree, link = tmp_path / "tree", tmp_path / "link"
    (tree / "below").mkdir(parents=True)
    link.symlink_to(tree / "below")
    remove(link)
    assert (tree / "below").is_dir()
    remove(tree)
    remove(tree)
    assert not tree.exists()
