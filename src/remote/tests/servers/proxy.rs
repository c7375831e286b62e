//! An HTTP proxy that leads places to ports on loopback, and notes who was asked for.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use remote::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The heads of the requests that came.
pub type Heads = Arc<Mutex<Vec<String>>>;

/// Starts a proxy that knows `places` (host and port) and refuses all others.
pub async fn start(places: &[(&str, u16)]) -> (Proxy, Heads) {
    let places: HashMap<String, u16> = places
        .iter()
        .map(|(place, port)| ((*place).to_owned(), *port))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let heads = Heads::default();
    let noted = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (places, noted) = (places.clone(), Arc::clone(&noted));
            tokio::spawn(async move { serve(stream, &places, &noted).await });
        }
    });
    let proxy = Proxy::new(&address, Some(("user", "pass"))).expect("a proxy");
    (proxy, heads)
}

async fn serve(mut stream: TcpStream, places: &HashMap<String, u16>, heads: &Heads) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.expect("a request") == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).expect("text");
    let place = head.split(' ').nth(1).expect("a place").to_owned();
    heads.lock().push(head);
    let Some(port) = places.get(&place) else {
        let refusal = b"HTTP/1.1 502 Bad Gateway\r\n\r\n";
        stream.write_all(refusal).await.expect("an answer");
        return;
    };
    let onward = TcpStream::connect(("127.0.0.1", *port)).await;
    let mut onward = onward.expect("the server");
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    stream.write_all(answer).await.expect("an answer");
    // Either side may go away.
    let _ = copy_bidirectional(&mut stream, &mut onward).await;
}

/// The places that were asked for, in order.
pub fn places(heads: &Heads) -> Vec<String> {
    let place = |head: &String| head.split(' ').nth(1).expect("a place").to_owned();
    heads.lock().iter().map(place).collect()
}
