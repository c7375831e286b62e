//! HTTP/1.1 over TLS on a port of loopback: as much of it as homeservers use among themselves.
//!
//! A thread for each connection. Ending it shuts every connection, as a server that goes away does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::authority::authority;
use crate::peer::{PeerAnswer, PeerRequest};

/// What answers requests.
pub(super) type Answerer = Arc<dyn Fn(PeerRequest) -> PeerAnswer + Send + Sync>;

/// A listener that answers until it is dropped.
pub(super) struct Listener {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Answers on a bound socket.
    pub(super) fn start(socket: TcpListener, answerer: Answerer) -> Self {
        let address = socket.local_addr().expect("an address");
        let tls = tls();
        let ended = Arc::new(AtomicBool::new(false));
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (end, open) = (Arc::clone(&ended), Arc::clone(&connections));
        let thread = thread::spawn(move || {
            for stream in socket.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(stream) = stream.try_clone() {
                    open.lock().expect("no panic before").push(stream);
                }
                let (tls, answerer) = (Arc::clone(&tls), Arc::clone(&answerer));
                // A client that breaks off ends its connection, and nothing else.
                thread::spawn(move || serve(stream, tls, &answerer).ok());
            }
        });
        Self {
            address,
            ended,
            connections,
            thread: Some(thread),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // So that the thread looks.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Ok(connections) = self.connections.lock() {
            for connection in connections.iter() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

fn tls() -> Arc<ServerConfig> {
    let issued = authority().issue(&["127.0.0.1", "localhost"]);
    let certificate =
        CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    Arc::new(config)
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, answerer: &Answerer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(request) = read_request(&mut stream)? {
        let answer = answerer(request);
        let head = format!(
            "HTTP/1.1 {} Answer\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            answer.status,
            answer.content_type,
            answer.body.len()
        );
        let out = stream.get_mut();
        out.write_all(head.as_bytes())?;
        out.write_all(&answer.body)?;
        out.flush()?;
    }
    Ok(())
}

/// The next request; nothing where the client has ended the connection.
fn read_request(from: &mut impl BufRead) -> io::Result<Option<PeerRequest>> {
    let line = read_line(from)?;
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut request = PeerRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let line = read_line(from)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.push((name, value));
    }
    if request.header("transfer-encoding").is_some() {
        read_chunks(from, &mut request.body)?;
    } else if let Some(length) = request.header("content-length") {
        let length: u64 = length.parse().map_err(io::Error::other)?;
        from.take(length).read_to_end(&mut request.body)?;
    }
    Ok(Some(request))
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = read_line(from)?;
        let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        from.by_ref().take(size).read_to_end(body)?;
        read_line(from)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// A line without its end; empty at the end of the connection.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}
