//! The types of single values: what each allows, and how it is written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::document::{Value, quoted};
use crate::setting::{Scalar, Setting, choice};

impl Scalar for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Boolean(flag) = value else {
            return None;
        };
        Some(*flag)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Scalar for u32 {
    fn allowed() -> String {
        format!("a whole number from 0 to {}", u32::MAX)
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Integer(number) = value else {
            return None;
        };
        u32::try_from(*number).ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Scalar for String {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        Some(text.clone())
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Scalar for PathBuf {
    fn allowed() -> String {
        "a path".to_owned()
    }

    fn parse(value: &Value, base: &Path) -> Option<Self> {
        match value {
            Value::Text(text) if !text.is_empty() => Some(base.join(text)),
            _ => None,
        }
    }

    fn write(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Scalar for IpNet {
    fn allowed() -> String {
        "an address or a network such as \"10.0.0.0/8\"".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(address)
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

/// The units of time, longest first, with their length in milliseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Scalar for Duration {
    fn allowed() -> String {
        "a time such as \"500 ms\", \"30 s\", \"5 min\", \"12 h\", \"7 d\" or \"2 w\"".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        let (count, unit) = split_quantity(text)?;
        let (_, unit_ms) = TIME_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        count.checked_mul(unit_ms).map(Duration::from_millis)
    }

    fn write(&self) -> String {
        let ms = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        write_quantity(ms, &TIME_UNITS)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Scalar for ByteSize {
    fn allowed() -> String {
        "a size such as \"512 KiB\", \"50 MiB\" or \"2 GiB\", or a number of bytes".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        match value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok().map(ByteSize),
            Value::Text(text) => {
                let (count, unit) = split_quantity(text)?;
                let (_, bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
                count.checked_mul(bytes).map(ByteSize)
            }
            _ => None,
        }
    }

    fn write(&self) -> String {
        write_quantity(self.0, &SIZE_UNITS)
    }
}

/// `"30 s"` and `"30s"` as 30 and `s`.
fn split_quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    Some((count.parse().ok()?, unit.trim()))
}

/// The largest unit that says `amount` exactly.
fn write_quantity(amount: u64, units: &[(&str, u64)]) -> String {
    for (name, length) in units {
        if amount >= *length && amount.is_multiple_of(*length) {
            return quoted(&format!("{} {name}", amount / length));
        }
    }
    let smallest = units.last().map_or("", |(name, _)| *name);
    quoted(&format!("{amount} {smallest}"))
}

/// A text that is not shown: neither in logs nor in the reference.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Scalar for Secret {
    fn allowed() -> String {
        "a text, not empty".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        match value {
            Value::Text(text) if !text.is_empty() => Some(Secret(text.clone())),
            _ => None,
        }
    }

    fn write(&self) -> String {
        quoted("(hidden)")
    }
}

/// The name of a homeserver: the part after the colon of its users' identifiers.
///
/// A DNS name, an IPv4 address or an IPv6 address in brackets, and a port if need be (spec, appendices,
/// "Server Name"); at most 230 bytes, as the spec recommends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerName(String);

impl ServerName {
    /// The name, or None when it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    None,
                    port.strip_prefix(':').or(port.is_empty().then_some("0")),
                )
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Some(host), Some(port)),
                None => (Some(text), Some("0")),
            },
        };
        let port = port?;
        let dns = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        let host_good = host.is_none_or(|host| !host.is_empty() && host.bytes().all(dns));
        let port_good = (1..=5).contains(&port.len()) && port.parse::<u16>().is_ok();
        let digits_only = port.bytes().all(|c| c.is_ascii_digit());
        let good = host_good && port_good && digits_only && text.len() <= 230;
        good.then(|| ServerName(text.to_owned()))
    }

    /// `localhost`, the name that stands in for one that is still to be given.
    pub(crate) fn local() -> Self {
        ServerName("localhost".to_owned())
    }

    /// The name as it is written in identifiers.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for ServerName {
    fn allowed() -> String {
        "a server name such as \"example.org\": a DNS name or an address, and a port if need be"
            .to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        ServerName::new(text)
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

/// Where a listener accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => write!(f, "{address}"),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Scalar for Bind {
    fn allowed() -> String {
        "an IP address with a port such as \"127.0.0.1:8008\" or \"[::]:8448\", or \"unix:\" and a path"
            .to_owned()
    }

    fn parse(value: &Value, base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        match text.strip_prefix("unix:") {
            Some("") => None,
            Some(path) => Some(Bind::Unix(base.join(path))),
            None => text.parse().ok().map(Bind::Tcp),
        }
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

choice! {
    /// An API that a listener serves.
    pub enum Api {
        /// The client-server API, with media, the well-known files and, when
        /// `registration.shared_secret` is set, registration by shared secret.
        Client = "client",
        /// The server-server API, with the keys of this server.
        Federation = "federation",
        /// The administration API.
        Admin = "admin",
        /// Prometheus metrics, without authentication: keep such a listener private.
        Metrics = "metrics",
    }
}

/// The APIs that a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiSet {
    bits: u8,
}

impl ApiSet {
    /// The set of `apis`.
    pub const fn of(apis: &[Api]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < apis.len() {
            bits |= 1 << apis[index] as u8;
            index += 1;
        }
        ApiSet { bits }
    }

    /// Whether `api` is served.
    pub const fn contains(self, api: Api) -> bool {
        self.bits & (1 << api as u8) != 0
    }
}

impl Scalar for ApiSet {
    fn allowed() -> String {
        format!("a list of at least {}", <Api as Setting>::allowed())
    }

    fn parse(value: &Value, base: &Path) -> Option<Self> {
        let Value::List(items) = value else {
            return None;
        };
        let mut apis = Vec::with_capacity(items.len());
        for item in items {
            apis.push(<Api as Scalar>::parse(&item.value, base)?);
        }
        (!apis.is_empty()).then(|| ApiSet::of(&apis))
    }

    fn write(&self) -> String {
        let served = Api::ALL.iter().filter(|api| self.contains(**api));
        let texts: Vec<String> = served.map(|api| quoted(api.as_str())).collect();
        format!("[{}]", texts.join(", "))
    }
}

/// The permissions of a file, as `chmod` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Scalar for FileMode {
    fn allowed() -> String {
        "permissions as chmod takes them, such as \"660\"".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        let octal = text.len() <= 4 && text.bytes().all(|c| (b'0'..=b'7').contains(&c));
        let mode = u32::from_str_radix(text, 8).ok()?;
        (octal && mode <= 0o777).then_some(FileMode(mode))
    }

    fn write(&self) -> String {
        quoted(&format!("{:o}", self.0))
    }
}

/// How often something may be done: a bucket of `burst` that refills at `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// What is given back each second; more than 0.
    pub per_second: f64,
    /// How many may be done at once; at least 1.
    pub burst: u32,
}

impl Rate {
    /// The rate of `burst` at once and `per_second` in the long run.
    pub const fn new(per_second: f64, burst: u32) -> Self {
        Rate { per_second, burst }
    }
}

impl Scalar for Rate {
    fn allowed() -> String {
        "{ per_second = a number over 0, burst = a whole number over 0 }".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Table(table) = value else {
            return None;
        };
        let per_second = match table.get("per_second")?.value {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => return None,
        };
        let Value::Integer(burst) = table.get("burst")?.value else {
            return None;
        };
        let burst = u32::try_from(burst).ok()?;
        let good = table.len() == 2 && per_second > 0.0 && per_second.is_finite() && burst > 0;
        good.then_some(Rate { per_second, burst })
    }

    fn write(&self) -> String {
        format!(
            "{{ per_second = {}, burst = {} }}",
            self.per_second, self.burst
        )
    }
}

choice! {
    /// How much is logged.
    pub enum Level {
        /// Nothing.
        Off = "off",
        /// What went wrong and needs a person.
        Error = "error",
        /// What is doubtful, or went wrong and was dealt with.
        Warn = "warn",
        /// The milestones of a server's life.
        Info = "info",
        /// Every request and decision.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// Which log lines are written: one level for all, and others for the modules named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// The level of every module that is not named.
    pub level: Level,
    /// Modules by the start of their path, and their levels.
    pub targets: Vec<(String, Level)>,
}

impl LogFilter {
    /// One level for all modules.
    pub const fn all(level: Level) -> Self {
        LogFilter {
            level,
            targets: Vec::new(),
        }
    }
}

impl Scalar for LogFilter {
    fn allowed() -> String {
        let levels: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
        let levels = levels.join(", ");
        format!("one of {levels}, and after it if need be levels of modules: \"info,api=debug\"")
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        let level = |text: &str| {
            Level::ALL
                .iter()
                .copied()
                .find(|level| level.as_str() == text)
        };
        let mut parts = text.split(',').map(str::trim);
        let mut filter = LogFilter::all(level(parts.next()?)?);
        for part in parts {
            let (target, text) = part.split_once('=')?;
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            if target.is_empty() || !target.chars().all(good) {
                return None;
            }
            filter.targets.push((target.to_owned(), level(text)?));
        }
        Some(filter)
    }

    fn write(&self) -> String {
        let mut text = self.level.as_str().to_owned();
        for (target, level) in &self.targets {
            text.push_str(&format!(",{target}={}", level.as_str()));
        }
        quoted(&text)
    }
}

choice! {
    /// How log lines look.
    pub enum LogFormat {
        /// Lines for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

choice! {
    /// When acknowledged writes are on the disk.
    pub enum SyncMode {
        /// Before they are acknowledged: nothing acknowledged is lost, not even by power loss.
        Always = "always",
        /// Every `sync_interval`: power loss costs at most the last interval, a crash of the server nothing.
        Interval = "interval",
        /// When the system sees fit: power loss costs seconds, a crash of the server nothing.
        Never = "never",
    }
}

choice! {
    /// Who may make an account.
    pub enum RegistrationMode {
        /// Anybody who can reach the server.
        Open = "open",
        /// Who has a registration token.
        Token = "token",
        /// Nobody; accounts are made by `meyrin user create` or by shared secret.
        Closed = "closed",
    }
}

choice! {
    /// The room versions that can be the default.
    pub enum RoomVersion {
        /// Version 10.
        V10 = "10",
        /// Version 11.
        V11 = "11",
        /// Version 12.
        V12 = "12",
    }
}

choice! {
    /// Whom a user directory search can find.
    pub enum DirectoryScope {
        /// Users who share a room with the searcher, or are in a public room.
        SharedRooms = "shared_rooms",
        /// Every user of this server as well.
        Everyone = "everyone",
    }
}

choice! {
    /// What a support contact is for (spec, "Server support contact").
    pub enum ContactRole {
        /// General requests.
        Admin = "m.role.admin",
        /// Security matters.
        Security = "m.role.security",
    }
}
