"""Three Meyrins on a network of their own, whose links can be cut.

Each server lives in a network namespace and is called by its address there. The namespaces meet at a bridge, in a
namespace as well, so nothing of this is seen in the machine's own network, and no address of that matters here.
Clients reach their server through a unix socket, whatever became of its link.
"""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.request

from servers import PATIENCE, Authority, Meyrin

PREFIX = "meyrin-links-"
# A locally administered address that no card has: what is sent there is gone.
NOWHERE = "02:00:00:00:00:01"


def ip(*arguments, check=True):
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and result.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
    return result


class UnixHandler(urllib.request.HTTPHandler):
    """HTTP through a unix socket, whatever host the address names."""

    def __init__(self, path):
        super().__init__()
        self.path = str(path)

    def http_open(self, request):
        return self.do_open(self.connection, request)

    def connection(self, host, **options):
        path = self.path

        class Connection(http.client.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(self.timeout)
                self.sock.connect(path)

        return Connection(host, **options)


class LinkedMeyrin(Meyrin):
    """A server in a namespace, with one link to the bridge."""

    def __init__(self, authority, folder, namespace, address):
        self.namespace = namespace
        self.address = address
        super().__init__(authority, folder)

    def settle(self):
        path = self.folder / "clients"
        self.client_bind = f"unix:{path}"
        self.federation_bind = f"{self.address}:8448"
        self.name = self.address
        self.url = "http://localhost"
        self.opener = urllib.request.build_opener(UnixHandler(path))

    def open(self, request, timeout):
        return self.opener.open(request, timeout=timeout)

    def command(self):
        return ["ip", "netns", "exec", self.namespace, *super().command()]

    def fails_to_reach(self, other):
        """Whether sending to the other server has failed, and waits to be tried again."""
        command = [*super().command()[:1], "federation", "list", "--json", "--config", self.folder / "meyrin.toml"]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
        rows = [json.loads(line) for line in output.splitlines()]
        return any(row["server"] == other.name and row["failures"] > 0 for row in rows)

    @contextlib.contextmanager
    def suspended(self):
        """While the process stands still: the kernel goes on accepting connections, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Links:
    """The servers, and the links between them. Where there can be no namespaces, the test is skipped."""

    def __init__(self, count):
        self.servers = []
        self.namespaces = []
        self.lost_ways = set()
        self.folder = tempfile.mkdtemp(prefix="federation-")
        # Also where the run is interrupted, when unittest does not call those who clean up.
        atexit.register(self.close)
        try:
            self.build(count)
        except BaseException:
            self.close()
            raise

    def build(self, count):
        remove_those_of_ended_runs()
        self.bridge = self.namespace("bridge", may_be_refused=True)
        ip("-n", self.bridge, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.bridge, "link", "set", "bridge", "up")
        authority = Authority(self.folder)
        for number in range(count):
            namespace, address = self.namespace(str(number)), f"10.77.0.{number + 1}"
            ip("-n", self.bridge, "link", "add", f"port{number}", "type", "veth", "peer", "name", "wire", "netns", namespace)
            ip("-n", self.bridge, "link", "set", f"port{number}", "master", "bridge", "up")
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                ip("-n", namespace, "link", "set", device, "up")
            folder = pathlib.Path(self.folder) / f"meyrin{number}"
            self.servers.append(LinkedMeyrin(authority, folder, namespace, address))
        for server in self.servers:
            server.start()

    def namespace(self, purpose, may_be_refused=False):
        name = f"{PREFIX}{os.getpid()}-{purpose}"
        result = ip("netns", "add", name, check=False)
        if result.returncode != 0:
            reason = f"network namespaces can't be made here (root is needed): {result.stderr.strip()}"
            raise unittest.SkipTest(reason) if may_be_refused else RuntimeError(reason)
        self.namespaces.append(name)
        return name

    def cut(self, server):
        """Takes the server's link down: it reaches nobody and nobody reaches it."""
        ip("-n", self.bridge, "link", "set", f"port{self.servers.index(server)}", "down")

    def swallow(self, one, other):
        """What the two send each other is lost on the way, with no word to either; all others are reached."""
        for sender, receiver in ((one, other), (other, one)):
            way = (receiver.address, "dev", "wire")
            ip("-n", sender.namespace, "neighbour", "replace", *way, "lladdr", NOWHERE, "nud", "permanent")
            self.lost_ways.add((sender.namespace, way))

    def heal(self):
        for namespace, way in self.lost_ways:
            ip("-n", namespace, "neighbour", "delete", *way)
        self.lost_ways.clear()
        for number in range(len(self.servers)):
            ip("-n", self.bridge, "link", "set", f"port{number}", "up")

    def close(self):
        atexit.unregister(self.close)
        for server in self.servers:
            server.stop()
        while self.namespaces:
            ip("netns", "delete", self.namespaces.pop(), check=False)
        if os.environ.get("KEEP"):
            print("kept:", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def remove_those_of_ended_runs():
    """Runs that were killed leave their namespaces behind."""
    for line in ip("netns", "list", check=False).stdout.splitlines():
        name = line.split()[0]
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name.split('-')[2]}"):
            ip("netns", "delete", name, check=False)
