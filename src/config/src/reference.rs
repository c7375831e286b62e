//! The reference (`docs/configuration.md`) and the example, both written from the keys themselves.

use crate::keys::Config;
use crate::setting::{Inside, Key, Section};

/// The example configuration: every key with its documentation, commented out at its default.
pub fn example() -> String {
    let mut out = String::from(
        "# The configuration of a Meyrin server. Lines that begin with \"#\" and a key show its default, or\n\
         # an example where nothing is set by default.\n",
    );
    let keys = Config::keys();
    for key in keys.iter().filter(|key| key.inside.is_none()) {
        example_key(key, false, &mut out);
    }
    for key in &keys {
        if let Some(inside) = &key.inside {
            example_section(key.name, key, inside, &mut out);
        }
    }
    out
}

fn example_section(name: &str, key: &Key, inside: &Inside, out: &mut String) {
    out.push_str("\n\n");
    comment(key.doc, out);
    // A list that is empty by default must stay so in the example.
    let unset = inside.repeated && key.default.as_deref() == Some("[]");
    let mark = if unset { "#" } else { "" };
    let header = if inside.repeated {
        format!("[[{name}]]")
    } else {
        format!("[{name}]")
    };
    out.push_str(&format!("{mark}{header}\n"));
    for key in &inside.keys {
        match &key.inside {
            Some(inner) => example_section(&format!("{name}.{}", key.name), key, inner, out),
            None => example_key(key, unset, out),
        }
    }
}

fn example_key(key: &Key, unset: bool, out: &mut String) {
    out.push('\n');
    comment(key.doc, out);
    let value = shown_value(key);
    let mark = if key.required && !unset { "" } else { "#" };
    out.push_str(&format!("{mark}{} = {value}\n", key.name));
}

fn shown_value(key: &Key) -> &str {
    // An empty list shows less than the example.
    let default = key
        .default
        .as_deref()
        .filter(|default| !key.required && *default != "[]");
    default.or(key.example).unwrap_or("\"\"")
}

fn comment(doc: &[&str], out: &mut String) {
    for line in doc {
        out.push_str(&format!("#{line}\n"));
    }
}

/// The reference in Markdown.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    let keys = Config::keys();
    out.push_str("\n## At the top\n\n");
    reference_keys(&keys, &mut out);
    for key in &keys {
        if let Some(inside) = &key.inside {
            reference_section(key.name, key, inside, &mut out);
        }
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

This file is generated from `src/config/src/keys.rs`, where the keys are defined; `meyrin config example`
prints the same as a commented file to start from.

`meyrin` reads the file that `--config` (or `MEYRIN_CONFIG`) names, else `meyrin.toml` in the current folder,
else `/etc/meyrin/meyrin.toml`. The file is TOML. Relative paths start at the folder of the file. Unknown keys and
values that are not allowed are refused, with the line and what is allowed; `meyrin config check` says so without
starting anything.

Environment variables win over the file: `MEYRIN_SERVER_NAME` sets `server_name`, and `MEYRIN_STORAGE__SYNC` sets
`sync` in `[storage]`. What is not text is written as in TOML: `MEYRIN_LIMITS__ENABLED=false`,
`MEYRIN_LISTEN='[{ bind = \"0.0.0.0:8008\" }]'`. With `MEYRIN_SERVER_NAME` set, no file is needed.

On SIGHUP the server reads its configuration again and puts into effect the keys marked *live*, and the
contents of certificate files; the log says which keys changed and which of them wait for a restart. A
configuration with a mistake in it changes nothing.

Sizes are written as `\"50 MiB\"`, times as `\"30 s\"`.
";

fn reference_section(name: &str, key: &Key, inside: &Inside, out: &mut String) {
    let header = if inside.repeated {
        format!("[[{name}]]")
    } else {
        format!("[{name}]")
    };
    out.push_str(&format!("\n## `{header}`\n\n{}\n\n", prose(key.doc)));
    reference_keys(&inside.keys, out);
    for key in &inside.keys {
        if let Some(inner) = &key.inside {
            reference_section(&format!("{name}.{}", key.name), key, inner, out);
        }
    }
}

fn reference_keys(keys: &[Key], out: &mut String) {
    for key in keys.iter().filter(|key| key.inside.is_none()) {
        let live = if key.live { ", *live*" } else { "" };
        let default = match &key.default {
            _ if key.required => "must be given".to_owned(),
            Some(default) => format!("default `{default}`"),
            None => "not set by default".to_owned(),
        };
        let example = key
            .example
            .map(|text| format!(", for example `{text}`"))
            .unwrap_or_default();
        out.push_str(&format!(
            "- **`{}`** ({default}{example}{live})  \n",
            key.name
        ));
        out.push_str(&format!(
            "  {}  \n  Allowed: {}.\n",
            prose(key.doc),
            key.allowed
        ));
    }
}

/// The lines of a documentation comment as one line.
fn prose(doc: &[&str]) -> String {
    doc.iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
}
