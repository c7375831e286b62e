//! The real binary in a process of its own, on a data directory of its own.
//!
//! The directory goes, and the process is killed, when the value is dropped; the end of the log is
//! shown if that happens because a test has failed. With the environment variable
//! `HOMESERVER_URL` no process is started, and the server there is used, so that the black-box tests
//! can be tried on any homeserver. It has to have open registration and no rate limits.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::authority::authority;
use crate::client::Client;
use crate::user::User;
use crate::wait::until;

/// Ports are taken from here upwards: below those that systems give to outgoing connections.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The executable: `env!("CARGO_BIN_EXE_meyrin")` in tests of that package.
    pub binary: PathBuf,
    /// `server_name`.
    pub server_name: String,
    /// `registration.mode`.
    pub registration: String,
    /// `registration.tokens`.
    pub tokens: Vec<String>,
    /// `registration.shared_secret`.
    pub shared_secret: Option<String>,
    /// `limits.enabled`.
    pub limits: bool,
    /// `storage.sync`.
    pub sync: String,
    /// `data_dir`; in the server's own directory if none.
    pub data_dir: Option<PathBuf>,
    /// The server federates: its name is the address of a TLS listener of its own, with a certificate of the test's
    /// authority. [`Self::server_name`] does not count then.
    pub federated: bool,
    /// More of `[federation]`, in TOML.
    pub federation: String,
    /// More configuration, in TOML, after all of the above: tables of its own only.
    pub more: String,
}

impl ServerOptions {
    /// Open registration, no rate limits, cheap passwords, and no waiting for the disk.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            server_name: "test.example".to_owned(),
            registration: "open".to_owned(),
            tokens: Vec::new(),
            shared_secret: None,
            limits: false,
            sync: "never".to_owned(),
            data_dir: None,
            federated: false,
            federation: String::new(),
            more: String::new(),
        }
    }

    /// The same with a name that other servers find it by.
    pub fn federated(self) -> Self {
        Self {
            federated: true,
            ..self
        }
    }

    fn configuration(&self, data: &Path, port: u16) -> String {
        let secret = match &self.shared_secret {
            Some(secret) => format!("shared_secret = {secret:?}\n"),
            None => String::new(),
        };
        let listen = match self.federated {
            true => format!(
                "[[listen]]\nbind = {:?}\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n\n",
                self.server_name
            ),
            false => String::new(),
        };
        format!(
            "server_name = {:?}\ndata_dir = {data:?}\n\n\
             [[listen]]\nbind = \"127.0.0.1:{port}\"\n\n{listen}\
             [registration]\nmode = {:?}\ntokens = {:?}\n{secret}\n\
             [limits]\nenabled = {}\n\n\
             [password]\nhash_memory = \"1 MiB\"\nhash_passes = 1\n\n\
             [federation]\nallow_private_networks = true\nextra_ca = \"ca.pem\"\n{}\n\n\
             [storage]\nsync = {:?}\n\n{}",
            self.server_name,
            self.registration,
            self.tokens,
            self.limits,
            self.federation,
            self.sync,
            self.more
        )
    }
}

/// A server under test.
pub struct Server {
    options: ServerOptions,
    directory: TempDir,
    url: String,
    process: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it ends, or does not answer in time, with its log.
    #[track_caller]
    pub fn start(mut options: ServerOptions) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("meyrin-")
            .tempdir()
            .expect("a directory");
        if let Ok(url) = std::env::var("HOMESERVER_URL") {
            return Self {
                options,
                directory,
                url,
                process: None,
            };
        }
        let port = free_port();
        write_certificates(directory.path(), &mut options);
        let data = options.data_dir.clone();
        let data = data.unwrap_or_else(|| directory.path().join("data"));
        let configuration = options.configuration(&data, port);
        fs::write(directory.path().join("meyrin.toml"), configuration).expect("a configuration");
        let url = format!("http://127.0.0.1:{port}");
        let mut server = Self {
            options,
            directory,
            url,
            process: None,
        };
        server.start_again();
        server
    }

    /// Starts the server again on its data, after [`Self::kill`] or [`Self::terminate`].
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log file");
        let mut command = self.command(&["serve"]);
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the server's binary can be started"));
        let client = Client::new(&self.url);
        until("the server answers", || {
            let ended = self
                .process
                .as_mut()
                .and_then(|process| process.try_wait().ok().flatten());
            if let Some(status) = ended {
                panic!(
                    "the server ended at its start: {status}\n{}",
                    self.end_of_log()
                );
            }
            let versions = "/_matrix/client/versions";
            let answer = client.try_exchange("GET", versions, &[], Vec::new()).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// `kill -9`, whatever the server is doing.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself meanwhile; what it left is examined all the same.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGTERM; returns when the server has ended.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        let sent = Command::new("kill")
            .args(["-TERM", &process.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "SIGTERM can be sent"
        );
        until("the server ends after SIGTERM", || {
            process.try_wait().expect("its status")
        })
    }

    /// Runs `meyrin ARGUMENTS... --config FILE` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .output()
            .expect("the server's binary can be started")
    }

    /// A client without a token.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Registers a new user, whose localpart begins with `name`.
    #[track_caller]
    pub fn register(&self, name: &str) -> User {
        User::register(&self.client(), name)
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name in identifiers.
    pub fn name(&self) -> &str {
        &self.options.server_name
    }

    /// The process id, while the server runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Where the server keeps everything.
    pub fn data_directory(&self) -> PathBuf {
        let data = self.options.data_dir.clone();
        data.unwrap_or_else(|| self.directory.path().join("data"))
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.directory.path().join("meyrin.toml")
    }

    /// The last lines of the server's log.
    pub fn end_of_log(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.binary);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.configuration());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MEYRIN_") {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.end_of_log());
        }
    }
}

/// The certificates of a server under test, and the name that one of them is for.
fn write_certificates(directory: &Path, options: &mut ServerOptions) {
    let write = |name: &str, text: &str| {
        fs::write(directory.join(name), text).expect("a certificate");
    };
    write("ca.pem", authority().pem());
    if options.federated {
        options.server_name = format!("127.0.0.1:{}", free_port());
        let issued = authority().issue(&["127.0.0.1", "localhost"]);
        write("cert.pem", &issued.certificate);
        write("key.pem", &issued.key);
    }
}

fn free_port() -> u16 {
    let address = free_socket().local_addr();
    address.expect("an address").port()
}

/// A socket on a port of loopback that nothing listened on. Test programs that run at once begin at different places.
pub(crate) fn free_socket() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (u64::from(std::process::id()) * 131 % u64::from(PORTS)) as u16;
    until("there is a free port", || {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (begin.wrapping_add(offset)) % PORTS;
        TcpListener::bind(("127.0.0.1", port)).ok()
    })
}
