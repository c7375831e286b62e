//! A configuration document: the values of the file and of the environment in one tree, each with the
//! place it came from, so that whoever refuses a value can say where it stands. Knows no keys.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Problem;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    Line(usize),
    /// The environment variable of this name.
    Environment(String),
    /// Nowhere: what is missing is missing from the whole.
    Whole,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct Located {
    pub origin: Origin,
    pub value: Value,
}

pub type Table = BTreeMap<String, Located>;

/// A TOML value. What no key takes (dates, numbers beyond 64 bits) is kept as text, to be refused as written.
#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Other(String),
    List(Vec<Located>),
    Table(Table),
}

impl fmt::Display for Value {
    /// As in TOML, for messages; lists and tables only by kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{}", quoted(text)),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
            Value::Boolean(flag) => write!(f, "{flag}"),
            Value::Other(text) => write!(f, "{text}"),
            Value::List(_) => write!(f, "a list"),
            Value::Table(_) => write!(f, "a table"),
        }
    }
}

/// `text` as a basic TOML string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Reads the text of a configuration file.
pub fn parse_file(text: &str) -> Result<Table, Problem> {
    match DeTable::parse(text) {
        Ok(table) => Ok(convert_table(table.get_ref(), &|at| {
            Origin::Line(line_of(text, at))
        })),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            Err(Problem::new(
                Origin::Line(line_of(text, at)),
                error.message().to_owned(),
            ))
        }
    }
}

/// Reads one value written as TOML in the environment variable `name`: `true`, `12`, `["a", "b"]`.
/// None when the text is no TOML value.
pub fn parse_variable(name: &str, text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    Some(convert(value.get_ref(), &|_| {
        Origin::Environment(name.to_owned())
    }))
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn convert_table(table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Table {
    let mut out = Table::new();
    for (key, value) in table {
        let located = Located {
            origin: origin(key.span().start),
            value: convert(value.get_ref(), origin),
        };
        out.insert(key.get_ref().to_string(), located);
    }
    out
}

fn convert(value: &DeValue<'_>, origin: &dyn Fn(usize) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            // Beyond 64 bits.
            Err(_) => Value::Other(number.to_string()),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(moment) => Value::Other(moment.to_string()),
        DeValue::Array(items) => {
            let locate = |item: &Spanned<DeValue<'_>>| Located {
                origin: origin(item.span().start),
                value: convert(item.get_ref(), origin),
            };
            Value::List(items.iter().map(locate).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, origin)),
    }
}
