//! The `MEYRIN_*` variables: `MEYRIN_SERVER_NAME` is `server_name`, `MEYRIN_STORAGE__SYNC` is `sync` in
//! `[storage]`. They win over the file.
//!
//! Other programs set variables that begin so as well (Kubernetes gives `MEYRIN_PORT` to the neighbours of
//! a service called meyrin), so only what can be meant for a key is looked at: a variable with a section
//! before `__`, or one that is or nearly is a key at the top.

use std::ffi::OsString;

use crate::document::{Located, Origin, Table, Value};
use crate::keys::Config;
use crate::problem::nearest;
use crate::setting::{Key, Reader, Section};

const PREFIX: &str = "MEYRIN_";

/// The variables that begin with `MEYRIN_`, in the order of their names. Those that are not UTF-8 are left out.
pub fn of_meyrin(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, value) in environment {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
            && name.starts_with(PREFIX)
        {
            out.push((name, value));
        }
    }
    out.sort();
    out
}

/// Puts `variables` over the values of `table`.
pub fn overlay(table: &mut Table, variables: &[(String, String)], reader: &mut Reader<'_>) {
    let keys = Config::keys();
    let is_section = |key: &Key| key.inside.as_ref().is_some_and(|inside| !inside.repeated);
    for (name, text) in variables {
        let origin = Origin::Environment(name.clone());
        let key = name[PREFIX.len()..].to_lowercase();
        let value = Located {
            origin: origin.clone(),
            value: Value::Text(text.clone()),
        };
        let Some((section, key)) = key.split_once("__") else {
            let mut tops = keys
                .iter()
                .filter(|key| !is_section(key))
                .map(|key| key.name);
            if let Some(near) = nearest(&key, tops.clone()) {
                if tops.any(|top| top == key) {
                    table.insert(key, value);
                } else {
                    let meant = format!(
                        "no key is called `{key}`; did you mean {PREFIX}{}?",
                        near.to_uppercase()
                    );
                    reader.refuse(&origin, meant);
                }
            }
            continue;
        };
        if !keys
            .iter()
            .any(|key| key.name == section && is_section(key))
        {
            if let Some(near) = nearest(section, keys.iter().map(|key| key.name)) {
                let meant = format!("no section is called `{section}`; did you mean `{near}`?");
                reader.refuse(&origin, meant);
            }
            continue;
        }
        let empty = || Located {
            origin,
            value: Value::Table(Table::new()),
        };
        let inside = table.entry(section.to_owned()).or_insert_with(empty);
        // A section that the file has as something else is refused when it is read.
        if let Value::Table(inside) = &mut inside.value {
            inside.insert(key.to_owned(), value);
        }
    }
}
