"""Small real file systems: ext4 on a loop device, mounted on the host and handed to a machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disks(folder: Path, wanted: dict[str, list[str]]) -> Iterator[dict[Path, str]]:
    """Mount a file system of 16 MiB for each path inside the machine, made with these options of mkfs.ext4.

    Yields host directory -> path inside.
    """
    mounted: dict[Path, str] = {}
    try:
        for number, (inside, options) in enumerate(wanted.items()):
            image, point = folder / f"{number}.img", folder / f"disk-{number}"
            with image.open("wb") as file:
                file.truncate(16 * 1024 * 1024)
            _run("mkfs.ext4", "-q", "-m", "0", *options, str(image))
            point.mkdir()
            _run("mount", "-o", "loop", str(image), str(point))
            mounted[point] = inside
            point.chmod(0o777)
        yield mounted
    finally:
        for point in mounted:
            _run("umount", "--lazy", str(point))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
