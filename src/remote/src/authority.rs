//! A host and perhaps a port, as they stand in a server name.
//! <https://spec.matrix.org/v1.19/appendices/#server-name>

use std::fmt;
use std::net::IpAddr;

/// A host and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Who is meant.
    pub host: Host,
    /// The port, if it is said.
    pub port: Option<u16>,
}

/// Who is meant by an authority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address: of IPv6 in brackets.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

impl Authority {
    /// Reads a server name, or the authority of a URL; `None` if it is none, or its port can't be.
    pub fn parse(text: &str) -> Option<Self> {
        if !event::identifier::is_server_name(text) {
            return None;
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let address = IpAddr::V6(address.parse().ok()?);
                (Host::Address(address), rest.strip_prefix(':'))
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                let host = match host.parse() {
                    Ok(address) => Host::Address(IpAddr::V4(address)),
                    Err(_) => Host::Name(host.to_owned()),
                };
                (host, port)
            }
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        Some(Self { host, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Host::Address(address) => write!(formatter, "{address}"),
            Host::Name(name) => formatter.write_str(name),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(formatter, "{}:{port}", self.host),
            None => write!(formatter, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_told_apart() {
        let parse = |text| Authority::parse(text).expect("an authority");
        assert_eq!(parse("a.example").port, None);
        assert_eq!(parse("a.example:8448").port, Some(8448));
        assert_eq!(parse("a.example").host, Host::Name("a.example".to_owned()));
        let v4 = parse("192.0.2.1:80");
        assert_eq!(v4.host, Host::Address([192, 0, 2, 1].into()));
        let v6 = parse("[2001:db8::1]:1");
        assert!(matches!(v6.host, Host::Address(IpAddr::V6(_))));
        assert_eq!(v6.to_string(), "[2001:db8::1]:1");
    }

    #[test]
    fn what_is_no_server_name_or_no_port_is_refused() {
        for text in ["", "a b", "a:99999", "a:0", "a:", "[::1", "a@b", "a/b"] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
