//! What values must be to each other.

use std::path::Path;

use crate::document::{Origin, Table, Value};
use crate::keys::Config;
use crate::setting::Reader;
use crate::types::{Bind, SyncMode};

/// Reports every value that does not go with another. `table` is what `config` was read from.
pub fn check(config: &Config, table: &Table, reader: &mut Reader<'_>) {
    check_listeners(config, table, reader);
    check_counts(config, table, reader);
    let mut refuse = |key: &str, text: &str| {
        let origin = origin(table, key);
        reader.refuse(&origin, text.to_owned());
    };
    if config.turn.username.is_some() != config.turn.password.is_some() {
        refuse(
            "turn",
            "`turn.username` and `turn.password` must be given together",
        );
    }
    if let Some(address) = &config.well_known.client
        && !(address.starts_with("https://") || address.starts_with("http://"))
    {
        refuse(
            "well_known.client",
            "`well_known.client` must start with https:// or http://",
        );
    }
    if let Some(name) = &config.well_known.server
        && crate::ServerName::new(name).is_none()
    {
        refuse(
            "well_known.server",
            "`well_known.server` must be a name with a port if need be, without https://",
        );
    }
    if let Some(proxy) = &config.federation.proxy
        && crate::ServerName::new(proxy).is_none()
    {
        refuse(
            "federation.proxy",
            "`federation.proxy` must be a host with a port if need be, without http://",
        );
    }
    if config.federation.proxy_user.is_some() != config.federation.proxy_password.is_some() {
        refuse(
            "federation",
            "`federation.proxy_user` and `federation.proxy_password` must be given together",
        );
    }
    for contact in &config.well_known.contacts {
        if contact.email_address.is_none() && contact.matrix_id.is_none() {
            refuse(
                "well_known.contacts",
                "each of `well_known.contacts` must have `email_address` or `matrix_id`",
            );
        }
    }
}

fn check_listeners(config: &Config, table: &Table, reader: &mut Reader<'_>) {
    if config.listen.is_empty() {
        reader.refuse(
            &origin(table, "listen"),
            "`listen` must have at least one entry".to_owned(),
        );
    }
    for (index, listen) in config.listen.iter().enumerate() {
        let at = element_origin(table, "listen", index);
        if listen.tls_cert.is_some() != listen.tls_key.is_some() {
            let text =
                format!("`listen[{index}]` must have `tls_cert` and `tls_key` together or neither");
            reader.refuse(&at, text);
        }
        if listen.tls_cert.is_some() && matches!(listen.bind, Bind::Unix(_)) {
            let text = format!("`listen[{index}]` is a unix socket, which can't have `tls_cert`");
            reader.refuse(&at, text);
        }
        // Port 0 takes any free port, each time another.
        let fixed = !matches!(listen.bind, Bind::Tcp(address) if address.port() == 0);
        if fixed
            && config.listen[..index]
                .iter()
                .any(|other| other.bind == listen.bind)
        {
            reader.refuse(
                &at,
                format!("`listen[{index}]` binds {} a second time", listen.bind),
            );
        }
    }
}

/// Numbers and times of which zero makes no sense.
fn check_counts(config: &Config, table: &Table, reader: &mut Reader<'_>) {
    let zeros = [
        ("http.max_connections", config.http.max_connections == 0),
        ("http.max_body_size", config.http.max_body_size.bytes() == 0),
        ("http.header_timeout", config.http.header_timeout.is_zero()),
        ("http.body_timeout", config.http.body_timeout.is_zero()),
        ("password.hash_passes", config.password.hash_passes == 0),
        (
            "sessions.access_token_lifetime",
            config.sessions.access_token_lifetime.is_zero(),
        ),
        (
            "storage.sync_interval",
            config.storage.sync == SyncMode::Interval && config.storage.sync_interval.is_zero(),
        ),
        (
            "media.thumbnail_threads",
            config.media.thumbnail_threads == 0,
        ),
        ("runtime.io_threads", config.runtime.io_threads == Some(0)),
        (
            "runtime.compute_threads",
            config.runtime.compute_threads == Some(0),
        ),
    ];
    for (key, zero) in zeros {
        if zero {
            reader.refuse(&origin(table, key), format!("`{key}` must be more than 0"));
        }
    }
    // What argon2 and RocksDB take at least, with room to work.
    let small = [
        (
            "password.hash_memory",
            config.password.hash_memory.bytes(),
            1 << 20,
            "1 MiB",
        ),
        (
            "storage.block_cache",
            config.storage.block_cache.bytes(),
            1 << 20,
            "1 MiB",
        ),
        (
            "storage.write_buffer",
            config.storage.write_buffer.bytes(),
            1 << 20,
            "1 MiB",
        ),
        (
            "storage.max_open_files",
            config.storage.max_open_files.into(),
            64,
            "64",
        ),
    ];
    for (key, value, least, text) in small {
        if value < least {
            reader.refuse(
                &origin(table, key),
                format!("`{key}` must be at least {text}"),
            );
        }
    }
    if config.password.hash_memory.bytes() > 4 << 30 {
        let text = "`password.hash_memory` must be at most 4 GiB".to_owned();
        reader.refuse(&origin(table, "password.hash_memory"), text);
    }
}

/// Where `key` was written, or the nearest section around it.
fn origin(table: &Table, key: &str) -> Origin {
    let mut origin = Origin::Whole;
    let mut table = table;
    for name in key.split('.') {
        let Some(located) = table.get(name) else {
            break;
        };
        origin = located.origin.clone();
        let Value::Table(inner) = &located.value else {
            break;
        };
        table = inner;
    }
    origin
}

fn element_origin(table: &Table, key: &str, index: usize) -> Origin {
    match table.get(key).map(|located| &located.value) {
        Some(Value::List(items)) => items
            .get(index)
            .map_or(Origin::Whole, |item| item.origin.clone()),
        _ => origin(table, key),
    }
}

/// The files that `config` names and that must be there, with their keys.
pub fn named_files(config: &Config) -> Vec<(String, &Path)> {
    let mut out: Vec<(String, &Path)> = Vec::new();
    for (index, listen) in config.listen.iter().enumerate() {
        for (key, path) in [("tls_cert", &listen.tls_cert), ("tls_key", &listen.tls_key)] {
            out.extend(
                path.as_deref()
                    .map(|path| (format!("listen[{index}].{key}"), path)),
            );
        }
    }
    let extra_ca = config.federation.extra_ca.as_deref();
    out.extend(extra_ca.map(|path| ("federation.extra_ca".to_owned(), path)));
    for (index, path) in config.appservices.files.iter().enumerate() {
        out.push((format!("appservices.files[{index}]"), path));
    }
    out
}
