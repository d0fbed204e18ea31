"""A Kerberos of one's own: MIT's KDC for a realm that lives in a folder, on a free port of loopback."""

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REALM = "STREAMGAUGE.TEST"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian keeps the KDC where only root looks."""
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "kvno")
CLIENT = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    clockskew = {skew_s}
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
"""
SERVER = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        supported_enctypes = aes256-cts:normal
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""


class Kdc:
    """The realm in this folder."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._folder = folder
        self.config, profile = self.client_config("krb5", self.port), folder / "kdc.conf"
        profile.write_text(SERVER.format(realm=REALM, port=self.port, folder=folder))
        own = {"KRB5_CONFIG": str(self.config), "KRB5_KDC_PROFILE": str(profile)}
        self.environment = {"PATH": PATH, "LC_ALL": "C"} | own
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "of the database")

    def _run(self, *command: str, **environment: str) -> None:
        subprocess.run(command, env=self.environment | environment, capture_output=True, check=True)

    def client_config(self, name: str, port: int, skew_s: int = 300) -> Path:
        """What a client needs to know; MIT's own value is that of `skew_s`."""
        file = self._folder / f"{name}.conf"
        file.write_text(CLIENT.format(realm=REALM, port=port, skew_s=skew_s))
        return file

    def keytab(self, principal: str, *options: str) -> Path:
        """The keys of a new principal."""
        file = self._folder / f"{principal.replace('/', '-')}.keytab"
        self._run("kadmin.local", "-r", REALM, "addprinc", "-randkey", *options, principal)
        self._run("kadmin.local", "-r", REALM, "ktadd", "-k", str(file), principal)
        return file

    def forget(self, principal: str) -> None:
        self._run("kadmin.local", "-r", REALM, "delprinc", "-force", principal)

    def ticket(self, keytab: Path, cache: Path, *services: str, skew_s: int = 0) -> Path:
        """A cache with a ticket to get tickets, and those for these services; the KDC's clock seems so far ahead.

        The layout: https://web.mit.edu/kerberos/krb5-latest/doc/formats/ccache_file_format.html, its header.
        """
        self._run("kinit", "-k", "-t", str(keytab), keytab.stem, KRB5CCNAME=str(cache))
        for service in services:
            self._run("kvno", service, KRB5CCNAME=str(cache))
        content = cache.read_bytes()
        version, length = struct.unpack(">HH", content[:4])
        assert version == 0x0504
        if skew_s:
            header = struct.pack(">HHHHii", version, 12, 1, 8, skew_s, 0)
            cache.write_bytes(header + content[4 + length :])
        return cache

    def issued_s(self, principal: str) -> list[int]:
        """When this principal was given tickets to get tickets, in seconds since 1970."""
        wanted = rf"AS_REQ .* ISSUE: authtime (\d+), .* {principal}@{REALM} for krbtgt/"
        return [int(found) for found in re.findall(wanted, (self._folder / "kdc.log").read_text())]


@contextmanager
def running_kdc(folder: Path) -> Iterator[Kdc]:
    """It answers."""
    realm = Kdc(folder)
    with subprocess.Popen(["krb5kdc", "-n", "-r", REALM], env=realm.environment, stdout=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", realm.port)):
                    break
            assert process.poll() is None, "krb5kdc has ended"
            yield realm
        finally:
            process.terminate()


def missing() -> str:
    """What of Kerberos is not on this machine, as people install it; empty when all is there."""
    programs = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    return f"{', '.join(programs)} (Debian: krb5-kdc, krb5-admin-server, krb5-user)" if programs else ""
