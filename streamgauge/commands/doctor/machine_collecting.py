"""What this machine would give to a worker and a listener. Nothing is made, and nothing is written."""

import os
import resource
import shutil
from pathlib import Path

from streamgauge.commands.doctor.picture import Machine, Setup, Store, Unseen
from streamgauge.errors import StreamgaugeError
from worker.settings import WorkerSettings, allowed_cores

MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")
"""Where a container finds its limit (cgroup v2)."""
MOUNTS = Path("/proc/self/mounts")


def look_at_machine(setup: Setup) -> Machine:
    """Loads the model, which takes a second or more."""
    return Machine(
        cores=allowed_cores(),
        memory_bytes=memory_bytes(),
        open_files=_open_files(),
        store=_store(setup.listener.store_path(setup.topics.prefix)),
        model_problem=_model_problem(setup.worker),
    )


def memory_bytes(memory_max: Path = MEMORY_MAX) -> int:
    """The machine's, or the container's limit if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = memory_max.read_text().strip()
    except OSError:
        return physical
    return physical if limit == "max" else min(physical, int(limit))


def _open_files() -> int | Unseen:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Unseen("there is no limit of open files") if soft == resource.RLIM_INFINITY else soft


def _store(path: Path) -> Store:
    path = path.absolute()
    folder = next(parent for parent in path.parents if parent.is_dir())
    writable = os.access(path if path.exists() else folder, os.W_OK) and os.access(folder, os.W_OK | os.X_OK)
    size_bytes = path.stat().st_size if path.exists() else 0
    return Store(
        str(path), str(folder), writable, filesystem(folder.resolve()), shutil.disk_usage(folder).free, size_bytes
    )


def filesystem(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the filesystem that a folder is on; empty where the system has no such list."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = [line.split() for line in lines]
    # A space in a mount point is written \040. Of mounts at one point the last one counts.
    kinds = {Path(of[1].replace("\\040", " ")): of[2] for of in fields if len(of) > 2}
    return next((kinds[parent] for parent in (folder, *folder.parents) if parent in kinds), "")


def _model_problem(settings: WorkerSettings) -> str | None:
    from worker.service import load_model

    try:
        load_model(settings).verify()
    except StreamgaugeError as problem:
        return str(problem)
    return None
