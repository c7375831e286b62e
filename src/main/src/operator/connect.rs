//! The command line's end: asks the running server, or opens the data itself when none runs.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use api::App;
use config::Config;
use store::StoreError;

use super::execute::{ExecuteError, execute};
use super::output::Output;
use super::terminal::Terminal;
use super::{Line, Request};
use crate::server::{self, OpenError};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The server said why.
    #[error("{0}")]
    Refused(String),
    #[error("the server went away before it was done: {0}")]
    Cut(io::Error),
    #[error("a server runs on this data, but its socket {path} can't be reached: {source}")]
    Unreachable { path: String, source: io::Error },
    #[error("there are no data in {0}; start the server once")]
    NoData(String),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Has `request` carried out and prints what comes back.
pub fn ask(config: &Config, request: Request) -> Result<(), OperatorError> {
    let path = config.admin_socket();
    match UnixStream::connect(&path) {
        Ok(stream) => ask_running(stream, &request),
        Err(source) => match ask_stopped(config, request) {
            Err(OperatorError::Open(OpenError::Store(StoreError::InUse { .. }))) => {
                Err(OperatorError::Unreachable {
                    path: path.display().to_string(),
                    source,
                })
            }
            done => done,
        },
    }
}

fn ask_running(mut stream: UnixStream, request: &Request) -> Result<(), OperatorError> {
    let mut line =
        serde_json::to_string(request).map_err(|error| OperatorError::Cut(error.into()))?;
    line.push('\n');
    stream
        .write_all(line.as_bytes())
        .map_err(OperatorError::Cut)?;
    let terminal = Terminal::default();
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(OperatorError::Cut)?;
        match serde_json::from_str(&line) {
            Ok(Line::Done) => return Ok(()),
            Ok(Line::Failed(text)) => return Err(OperatorError::Refused(text)),
            Ok(line) => {
                // Whoever reads has read enough.
                if !terminal.tell(line) {
                    return Ok(());
                }
            }
            Err(error) => return Err(OperatorError::Cut(error.into())),
        }
    }
    Err(OperatorError::Cut(io::ErrorKind::UnexpectedEof.into()))
}

fn ask_stopped(config: &Config, request: Request) -> Result<(), OperatorError> {
    // Opening would make them, and an empty database has little to say.
    if !config.database_dir().exists() {
        return Err(OperatorError::NoData(config.data_dir.display().to_string()));
    }
    // A thread of its own, so that jobs are worked on while the request waits for them.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(OperatorError::Runtime)?;
    let app = App::new(server::open_node(config)?);
    let terminal = Terminal::default();
    let tell = |line| terminal.tell(line);
    execute(request, &app, runtime.handle(), Output::new(&tell))?;
    runtime.block_on(app.node().finish_jobs());
    Ok(())
}
