//! Whose request it is: the connection's address, or the one that a trusted proxy forwards.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether a peer is a proxy whose `X-Forwarded-For` counts. On a unix socket (no peer address) it
/// is: who may connect there is decided by the file's permissions.
pub(super) fn is_trusted(peer: Option<IpAddr>, trusted: &[IpNet]) -> bool {
    match peer {
        Some(address) => trusted.iter().any(|network| network.contains(&address)),
        None => true,
    }
}

/// The address of the client behind a trusted peer: the rightmost forwarded one that is not itself a trusted
/// proxy. What stands left of it was written by the client and proves nothing.
pub(super) fn client_address(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let mut nearest = peer;
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        let Ok(value) = value.to_str() else {
            return nearest;
        };
        for part in value.rsplit(',') {
            let Some(address) = parse(part.trim()) else {
                return nearest;
            };
            nearest = Some(address);
            if !is_trusted(nearest, trusted) {
                return nearest;
            }
        }
    }
    nearest
}

/// Reads `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1` and `[2001:db8::1]:1234`.
fn parse(text: &str) -> Option<IpAddr> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.parse::<std::net::SocketAddr>() {
            Ok(address) => address.ip(),
            Err(_) => text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_of_ours_is_the_client() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let peer = Some(ip("10.0.0.1"));
        let found = |values| client_address(peer, &headers(values), &trusted);
        assert_eq!(
            found(&["198.51.100.7, 192.0.2.1, 10.0.0.2"]),
            Some(ip("192.0.2.1"))
        );
        assert_eq!(found(&["198.51.100.7", "192.0.2.1"]), Some(ip("192.0.2.1")));
        assert_eq!(found(&["192.0.2.1:4711"]), Some(ip("192.0.2.1")));
        assert_eq!(found(&["[2001:db8::1]:4711"]), Some(ip("2001:db8::1")));
        assert_eq!(
            found(&["192.0.2.1, nonsense, 10.0.0.2"]),
            Some(ip("10.0.0.2"))
        );
        assert_eq!(found(&[]), peer);
    }

    #[test]
    fn only_listed_networks_and_unix_sockets_are_trusted() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        assert!(is_trusted(None, &trusted));
        assert!(is_trusted(Some(ip("10.1.2.3")), &trusted));
        assert!(!is_trusted(Some(ip("192.0.2.1")), &trusted));
    }
}
