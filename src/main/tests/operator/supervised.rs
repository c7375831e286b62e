//! A server under a supervisor that hears its notifications, as systemd would.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server under a supervisor that hears its notifications.
pub struct Supervised {
    pub folder: Rc<TempDir>,
    notifications: UnixDatagram,
    process: Child,
    log: BufReader<ChildStderr>,
}

impl Supervised {
    pub fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_config(&folder, more);
        Supervised::start_in(Rc::new(folder))
    }

    /// Starts on the configuration and the data that are in `folder`.
    pub fn start_in(folder: Rc<TempDir>) -> Self {
        let socket = folder.path().join("notify.sock");
        // One of an earlier start may be there.
        let _ = fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket).expect("a socket");
        notifications
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        let mut process = command(&["serve"], &folder)
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "200000")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let log = BufReader::new(process.stderr.take().expect("its log"));
        let server = Supervised {
            folder,
            notifications,
            process,
            log,
        };
        server.wait_for("READY=1");
        server
    }

    /// Waits for a notification, over others that come before it.
    pub fn wait_for(&self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 1024];
        while Instant::now() < deadline {
            let length = self
                .notifications
                .recv(&mut buffer)
                .expect("a notification in time");
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
        panic!("no {wanted} in time");
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.process);
        kill_process(id, signal).expect("the signal is sent");
    }

    /// Stops it and returns how it ended and what it still logged.
    pub fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        self.signal(signal);
        self.wait_for("STOPPING=1");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the log");
        (self.process.wait().expect("it ends"), rest)
    }

    /// The log up to the first line that holds `wanted`.
    pub fn log_until(&mut self, wanted: &str) -> String {
        let mut lines = String::new();
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).expect("the log");
            assert!(length > 0, "the log ended before {wanted:?}:\n{lines}");
            lines.push_str(&line);
            if line.contains(wanted) {
                return lines;
            }
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Has ended already where a test got to its end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn write_config(folder: &TempDir, more: &str) {
    let text = format!(
        "server_name = \"example.org\"\ndata_dir = \"data\"\n[[listen]]\nbind = \"unix:client.sock\"\n{more}"
    );
    fs::write(folder.path().join("meyrin.toml"), text).expect("the configuration is written");
}

/// `meyrin` with `arguments`, in `folder`, on the configuration there.
fn command(arguments: &[&str], folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meyrin"));
    command.args(arguments).current_dir(folder.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MEYRIN_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `meyrin`: whether it succeeded, what it printed, and what it said besides.
pub fn meyrin(arguments: &[&str], folder: &TempDir) -> (bool, String, String) {
    meyrin_with_input(arguments, "", folder)
}

/// Runs `meyrin` with `input` on its standard input.
pub fn meyrin_with_input(
    arguments: &[&str],
    input: &str,
    folder: &TempDir,
) -> (bool, String, String) {
    let mut process = command(arguments, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = process.stdin.take().expect("its input");
    // A command that reads none may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
