//! The running server's end of the operator's socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use api::App;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::execute::execute;
use super::output::Output;
use super::{Line, Request};

/// The longest request.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// Lines that may wait for a slow reader.
const WAITING_LINES: usize = 256;

/// Binds the socket. One that an earlier process left is removed: the database is ours already, so that process has
/// ended.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the server stops.
pub async fn serve(listener: UnixListener, app: App) {
    let shutdown = app.node().shutdown().clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let app = app.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, app).await {
                        tracing::debug!(%error, "the operator went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the operator's socket");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn answer(stream: UnixStream, app: App) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut text = String::new();
    BufReader::new(reader)
        .take(MAX_REQUEST_BYTES)
        .read_line(&mut text)
        .await?;
    let request: Request = match serde_json::from_str(&text) {
        Ok(request) => request,
        // An older or newer `meyrin` than the server.
        Err(error) => {
            return write(
                &mut writer,
                &Line::Failed(format!("not understood: {error}")),
            )
            .await;
        }
    };
    tracing::info!(request = request.summary(), "the operator asks");
    let (sender, mut lines) = mpsc::channel(WAITING_LINES);
    let runtime = Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        // Nobody may be listening any more: what changes something is finished all the same.
        let tell = |line| sender.blocking_send(line).is_ok();
        match execute(request, &app, &runtime, Output::new(&tell)) {
            Ok(()) => Line::Done,
            Err(error) => Line::Failed(error.to_string()),
        }
    });
    while let Some(line) = lines.recv().await {
        write(&mut writer, &line).await?;
    }
    let last = work
        .await
        .unwrap_or_else(|_| Line::Failed("it did not finish; see the log".to_owned()));
    write(&mut writer, &last).await
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}
