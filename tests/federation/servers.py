"""Homeservers that federate with each other, on loopback unless told otherwise: Meyrin, and Synapse beside it."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

PATIENCE = 60.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Authority:
    """A certificate authority for one run."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.cert = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=federation test", "-keyout", self.key, "-out", self.cert,
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )

    def certificate(self, name, address="127.0.0.1"):
        """A certificate for localhost and an address, and its key."""
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:localhost,IP:{address}\nextendedKeyUsage=serverAuth\n")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
            "-keyout", key, "-out", request,
        )
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
            "-extfile", extensions, "-out", cert,
        )
        return cert, key

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Server:
    """A homeserver process. Its clients speak plain HTTP, other servers TLS."""

    kind = None
    address = "127.0.0.1"

    def __init__(self, authority, folder):
        self.authority = authority
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.settle()
        self.cert, self.key = authority.certificate(self.folder.name, self.address)
        self.process = None
        self.configure()

    def settle(self):
        """Says where the server listens, what it is called and where its clients find it."""
        self.client_port = free_port()
        self.federation_port = free_port()
        self.client_bind = f"{self.address}:{self.client_port}"
        self.federation_bind = f"{self.address}:{self.federation_port}"
        self.name = f"localhost:{self.federation_port}"
        self.url = f"http://{self.client_bind}"

    def open(self, request, timeout):
        """Sends a client's request."""
        return urllib.request.urlopen(request, timeout=timeout)

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, env=self.environment()
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} ended: {self.log_end()}")
            try:
                with self.open(f"{self.url}/_matrix/client/versions", timeout=2):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.kind} does not answer: {self.log_end()}") from None
                time.sleep(0.05)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self):
        """Ends the process as a power loss would."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def log_end(self):
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def environment(self):
        return dict(os.environ)


class Meyrin(Server):
    kind = "Meyrin"

    def command(self):
        return [os.environ["MEYRIN"], "serve", "--config", str(self.folder / "meyrin.toml")]

    def configure(self):
        (self.folder / "meyrin.toml").write_text(
            f"""
server_name = "{self.name}"
data_dir = "{self.folder}/data"

[[listen]]
bind = "{self.client_bind}"

[[listen]]
bind = "{self.federation_bind}"
tls_cert = "{self.cert}"
tls_key = "{self.key}"

[registration]
mode = "open"

[limits]
enabled = false

[federation]
extra_ca = "{self.authority.cert}"
allow_private_networks = true

[log]
level = "debug"
"""
        )


class Synapse(Server):
    kind = "Synapse"

    def command(self):
        python = pathlib.Path(os.environ["SYNAPSE_VENV"]) / "bin" / "python"
        return [str(python), "-m", "synapse.app.homeserver", "-c", str(self.folder / "homeserver.yaml")]

    def configure(self):
        (self.folder / "log.yaml").write_text(
            "version: 1\ndisable_existing_loggers: false\nformatters: {f: {format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}\n"
            "handlers: {h: {class: logging.StreamHandler, formatter: f}}\nroot: {level: INFO, handlers: [h]}\n"
        )
        rates = "{per_second: 100000, burst_count: 100000}"
        (self.folder / "homeserver.yaml").write_text(
            f"""
server_name: "{self.name}"
report_stats: false
pid_file: "{self.folder}/pid"
signing_key_path: "{self.folder}/signing.key"
media_store_path: "{self.folder}/media"
log_config: "{self.folder}/log.yaml"
macaroon_secret_key: test
form_secret: test
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
suppress_key_server_warning: true
trusted_key_servers: []
federation_ip_range_blacklist: []
ip_range_blacklist: []
federation_custom_ca_list: ["{self.authority.cert}"]
tls_certificate_path: "{self.cert}"
tls_private_key_path: "{self.key}"
enable_media_repo: true
max_upload_size: 20M
federation:
  destination_min_retry_interval: 1s
  destination_retry_multiplier: 2
  destination_max_retry_interval: 2s
listeners:
  - {{port: {self.client_port}, bind_addresses: ['127.0.0.1'], type: http, tls: false, resources: [{{names: [client]}}]}}
  - {{port: {self.federation_port}, bind_addresses: ['127.0.0.1'], type: http, tls: true, resources: [{{names: [federation]}}]}}
database:
  name: sqlite3
  args: {{database: "{self.folder}/homeserver.db"}}
allow_public_rooms_over_federation: true
room_list_publication_rules: [{{action: allow}}]
rc_room_creation: {rates}
rc_message: {rates}
rc_registration: {rates}
rc_login: {{address: {rates}, account: {rates}, failed_attempts: {rates}}}
rc_joins: {{local: {rates}, remote: {rates}}}
rc_joins_per_room: {rates}
rc_invites: {{per_room: {rates}, per_user: {rates}, per_issuer: {rates}}}
rc_federation: {{window_size: 1000, sleep_limit: 100000, sleep_delay: 1, reject_limit: 100000, concurrent: 100}}
"""
        )
        subprocess.run(
            [*self.command(), "--generate-keys"], check=True, capture_output=True, cwd=self.folder
        )


class Network:
    """Servers that know each other, in a folder that goes away."""

    def __init__(self, *kinds):
        self.folder = tempfile.mkdtemp(prefix="federation-")
        authority = Authority(self.folder)
        self.servers = []
        for number, kind in enumerate(kinds):
            self.servers.append(kind(authority, pathlib.Path(self.folder) / f"{kind.kind.lower()}{number}"))
        for server in self.servers:
            server.start()

    def close(self):
        for server in self.servers:
            server.stop()
        if os.environ.get("KEEP"):
            print("kept:", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
