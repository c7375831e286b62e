//! What names stand for: addresses and services.
//!
//! The hosts file comes first and is read again when it changes; then the servers that the system asks. Answers
//! are kept by the resolver for as long as they say, in bounded memory. [`Lookup`] is the seam for tests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::proto::rr::RData;
use parking_lot::Mutex;

/// A boxed future, as a trait that is used as an object needs it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Finds what names stand for.
pub trait Lookup: Send + Sync {
    /// The addresses of a host; none and an error are told apart for the message only.
    fn addresses<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Vec<IpAddr>, String>>;

    /// The SRV records of a service, unsorted. None, and a failure, are no records.
    fn services<'a>(&'a self, name: &'a str) -> Pending<'a, Vec<Service>>;

    /// Whether somebody on this machine wrote down where a host is: its services are not looked for.
    fn is_written_down(&self, name: &str) -> bool;
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// The host, without the dot at its end; empty where there is decidedly no such service.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// The system's names.
pub struct SystemNames {
    hosts: HostsFile,
    /// None where the system has no servers to ask.
    resolver: Option<TokioResolver>,
}

/// How long one server is waited for; there are two attempts.
const PATIENCE: Duration = Duration::from_secs(3);

impl Default for SystemNames {
    /// Reads the system's configuration.
    fn default() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = PATIENCE;
            options.attempts = 2;
            options.use_hosts_file = ResolveHosts::Never;
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.max_active_requests = 1024;
            builder.build()
        });
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no name servers are known: only the hosts file is looked into");
        }
        Self {
            hosts: HostsFile::new(PathBuf::from("/etc/hosts")),
            resolver: resolver.ok(),
        }
    }
}

impl Lookup for SystemNames {
    fn addresses<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move {
            let written_down = self.hosts.addresses(name);
            if !written_down.is_empty() {
                return Ok(written_down);
            }
            let Some(resolver) = &self.resolver else {
                return Err("no name servers are known".to_owned());
            };
            match resolver.lookup_ip(name).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Pending<'a, Vec<Service>> {
        Box::pin(async move {
            let Some(resolver) = &self.resolver else {
                return Vec::new();
            };
            // With the dot at its end it is not tried within the system's own domains.
            let found = match resolver.srv_lookup(format!("{name}.")).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(name, %error, "no services");
                    return Vec::new();
                }
            };
            let mut services = Vec::new();
            for record in found.answers() {
                if let RData::SRV(srv) = &record.data {
                    services.push(Service {
                        priority: srv.priority,
                        weight: srv.weight,
                        target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                        port: srv.port,
                    });
                }
            }
            services
        })
    }

    fn is_written_down(&self, name: &str) -> bool {
        !self.hosts.addresses(name).is_empty()
    }
}

/// The hosts file, as it was when it was last looked at.
struct HostsFile {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    changed: Option<SystemTime>,
    entries: Arc<HashMap<String, Vec<IpAddr>>>,
}

impl HostsFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::default(),
        }
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(addresses) = self.entries().get(&name) {
            return addresses.clone();
        }
        // RFC 6761: never asked of others.
        if name == "localhost" || name.ends_with(".localhost") {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        Vec::new()
    }

    fn entries(&self) -> Arc<HashMap<String, Vec<IpAddr>>> {
        let changed = std::fs::metadata(&self.path)
            .and_then(|metadata| metadata.modified())
            .ok();
        let mut read = self.read.lock();
        if changed != read.changed {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            *read = Read {
                changed,
                entries: Arc::new(parse_hosts(&text)),
            };
        }
        Arc::clone(&read.entries)
    }
}

fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut entries: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            continue;
        };
        for name in words {
            let addresses = entries.entry(name.to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_read_with_comments_aliases_and_both_kinds_of_addresses() {
        let entries = parse_hosts(
            "# all of it\n127.0.0.1 localhost\n192.0.2.1\tHS1 hs1.example # one\n::1 hs1\nnonsense hs2\n\n192.0.2.1 hs1",
        );
        let expected: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(entries["hs1"], expected);
        assert_eq!(entries["hs1.example"].len(), 1);
        assert!(!entries.contains_key("hs2"));
    }

    #[test]
    fn localhost_needs_no_entry_and_a_missing_file_is_an_empty_one() {
        let hosts = HostsFile::new(PathBuf::from("/nowhere/hosts"));
        assert_eq!(hosts.addresses("localhost").len(), 2);
        assert_eq!(hosts.addresses("a.localhost.").len(), 2);
        assert!(hosts.addresses("a.example").is_empty());
    }
}
