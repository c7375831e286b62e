//! An HTTP proxy for all outgoing connections (RFC 9110, CONNECT). It resolves names itself, so which addresses it
//! may contact is its own to say; addresses in names are still checked here.

use std::fmt;
use std::io;

use event::hash::base64_encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authority::Authority;

/// A proxy.
#[derive(Clone)]
pub struct Proxy {
    authority: Authority,
    credentials: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Proxy({})", self.authority)
    }
}

/// The longest answer to a CONNECT, in bytes.
const MAX_ANSWER_BYTES: usize = 8 << 10;

/// The port of a proxy that names none.
const DEFAULT_PORT: u16 = 3128;

impl Proxy {
    /// A proxy at a host and perhaps a port, with a user and a password if it asks for them; `None` if that is no host.
    pub fn new(authority: &str, credentials: Option<(&str, &str)>) -> Option<Self> {
        let credentials = credentials.map(|(user, password)| {
            let mut encoded = base64_encode(format!("{user}:{password}").as_bytes());
            while !encoded.len().is_multiple_of(4) {
                encoded.push('=');
            }
            encoded
        });
        Some(Self {
            authority: Authority::parse(authority)?,
            credentials,
        })
    }

    /// Where the proxy is.
    pub(crate) fn authority(&self) -> Authority {
        let mut authority = self.authority.clone();
        authority.port.get_or_insert(DEFAULT_PORT);
        authority
    }

    /// Has a proxy that `stream` leads to connect it with `place`, a host and a port.
    pub(crate) async fn tunnel(&self, stream: &mut TcpStream, place: &str) -> io::Result<()> {
        let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if let Some(credentials) = &self.credentials {
            request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512);
        // Nothing follows the head: the other end waits for this one to speak.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_ANSWER_BYTES || stream.read_buf(&mut answer).await? == 0 {
                return Err(io::Error::other("the proxy's answer is none"));
            }
        }
        let line = answer.split(|byte| *byte == b'\r').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        let mut words = line.split_ascii_whitespace();
        let http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
        match words.next() {
            Some(status) if http && status.len() == 3 && status.starts_with('2') => Ok(()),
            _ => Err(io::Error::other(format!("the proxy refused: {line:?}"))),
        }
    }
}
