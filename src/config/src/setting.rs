//! How a type is read from a document, written for the reference, and compared on reload.
//!
//! [`Scalar`] is one value; [`Setting`] adds what is made of them: optional values, lists, sections.
//! The `section!` and `choice!` macros are here so that a key is written once: name, type, default and
//! documentation in one place, from which come the plain struct, its reader, the reference
//! (`docs/configuration.md`), the example and the comparison of two configurations.

use std::path::Path;

use crate::document::{Located, Origin, Table, Value, parse_variable};
use crate::problem::{Problem, nearest};

/// A type that one TOML value stands for.
pub trait Scalar: Sized + PartialEq {
    /// What is allowed, to end "must be ..." in messages and for the reference.
    fn allowed() -> String;
    /// The value, or None when it is not allowed. Relative paths start at `base`.
    fn parse(value: &Value, base: &Path) -> Option<Self>;
    /// As TOML. Secrets write a placeholder.
    fn write(&self) -> String;
}

/// A type that a key can have.
pub trait Setting: Sized + PartialEq {
    fn allowed() -> String;
    /// The value; None after having reported why not.
    fn read(path: &str, located: &Located, reader: &mut Reader<'_>) -> Option<Self>;
    /// As TOML; None for an option that is not set.
    fn write(&self) -> Option<String>;
    /// The keys inside, for a section or a list of sections.
    fn inside() -> Option<Inside> {
        None
    }
    /// Adds what differs between two values at `path`.
    fn changes(&self, other: &Self, path: &str, live: bool, out: &mut Vec<Change>) {
        if self != other {
            out.push(Change {
                key: path.to_owned(),
                live,
            });
        }
    }
}

/// The keys of a section, or of each section of a list.
pub struct Inside {
    /// The section may be given any number of times, as `[[name]]`.
    pub repeated: bool,
    pub keys: Vec<Key>,
}

/// What a key is, as it was documented at its definition.
pub struct Key {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    /// Must be given.
    pub required: bool,
    /// A reload puts a new value into effect; others wait for a restart.
    pub live: bool,
    pub allowed: String,
    /// As TOML; None when not set by default.
    pub default: Option<String>,
    /// As TOML, for keys whose default shows little.
    pub example: Option<&'static str>,
    pub inside: Option<Inside>,
}

/// A key that differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key with its sections: `storage.sync`.
    pub key: String,
    /// A reload puts it into effect.
    pub live: bool,
}

/// A section: the struct that `section!` defines.
pub trait Section: Sized + PartialEq {
    fn keys() -> Vec<Key>;
    fn read_keys(path: &str, table: &Table, reader: &mut Reader<'_>) -> Self;
    fn write_keys(&self) -> Vec<(&'static str, Option<String>)>;
    fn changed_keys(&self, other: &Self, path: &str, out: &mut Vec<Change>);
}

/// Collects the problems of one document, so that all are reported at once.
pub struct Reader<'a> {
    pub base: &'a Path,
    pub problems: Vec<Problem>,
}

impl Reader<'_> {
    pub fn refuse(&mut self, origin: &Origin, text: String) {
        self.problems.push(Problem::new(origin.clone(), text));
    }

    /// The value of `key` in the section at `path`, or None when it is absent or refused.
    pub fn key<T: Setting>(&mut self, path: &str, table: &Table, key: &str) -> Option<T> {
        T::read(&join(path, key), table.get(key)?, self)
    }

    /// Reports that `key` must be given, when it is not.
    pub fn require(&mut self, path: &str, table: &Table, key: &str) {
        if !table.contains_key(key) {
            self.refuse(
                &Origin::Whole,
                format!("`{}` must be given", join(path, key)),
            );
        }
    }

    /// Reports every key of `table` that is not among `known`.
    pub fn refuse_unknown(&mut self, path: &str, table: &Table, known: &[&str]) {
        for (name, located) in table {
            if known.contains(&name.as_str()) {
                continue;
            }
            let meant = match nearest(name, known.iter().copied()) {
                Some(near) => format!("; did you mean `{}`?", join(path, near)),
                None => format!("; known here: {}", known.join(", ")),
            };
            let text = format!("unknown key `{}`{meant}", join(path, name));
            self.refuse(&located.origin, text);
        }
    }

    fn refuse_value(&mut self, path: &str, located: &Located, allowed: &str) {
        let text = format!("`{path}` is {}, but must be {allowed}", located.value);
        self.refuse(&located.origin, text);
    }
}

/// `section.key`, or `key` at the top.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A variable of the environment is text; what is no text for `T` may be TOML inside it.
fn from_environment(located: &Located) -> Option<Located> {
    let (Origin::Environment(name), Value::Text(text)) = (&located.origin, &located.value) else {
        return None;
    };
    let value = parse_variable(name, text)?;
    Some(Located {
        origin: located.origin.clone(),
        value,
    })
}

impl<T: Scalar> Setting for T {
    fn allowed() -> String {
        <T as Scalar>::allowed()
    }

    fn read(path: &str, located: &Located, reader: &mut Reader<'_>) -> Option<Self> {
        let mut value = T::parse(&located.value, reader.base);
        if value.is_none() {
            value = from_environment(located).and_then(|inner| T::parse(&inner.value, reader.base));
        }
        if value.is_none() {
            reader.refuse_value(path, located, &<T as Scalar>::allowed());
        }
        value
    }

    fn write(&self) -> Option<String> {
        Some(Scalar::write(self))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn allowed() -> String {
        T::allowed()
    }

    fn read(path: &str, located: &Located, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(path, located, reader).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(Setting::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list, each {}", T::allowed())
    }

    fn read(path: &str, located: &Located, reader: &mut Reader<'_>) -> Option<Self> {
        let inner = from_environment(located);
        let located = inner.as_ref().unwrap_or(located);
        let Value::List(items) = &located.value else {
            reader.refuse_value(path, located, &Self::allowed());
            return None;
        };
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            out.push(T::read(&format!("{path}[{index}]"), item, reader)?);
        }
        Some(out)
    }

    fn write(&self) -> Option<String> {
        let mut items = Vec::with_capacity(self.len());
        for item in self {
            items.extend(item.write());
        }
        Some(format!("[{}]", items.join(", ")))
    }

    fn inside() -> Option<Inside> {
        T::inside().map(|inside| Inside {
            repeated: true,
            ..inside
        })
    }
}

/// Defines a section: a plain struct with public fields, one per key.
///
/// Each key is `name: Type = default;`, optionally with `=> "example"` (TOML) before the semicolon,
/// and with `@live` (a reload puts it into effect) or `@required` before the name.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])*
                $(@$mark:ident)* $key:ident: $kind:ty = $default:expr $(=> $example:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $section {
            $($(#[doc = $doc])* pub $key: $kind,)*
        }

        impl Default for $section {
            fn default() -> Self {
                $section { $($key: $default,)* }
            }
        }

        impl $crate::setting::Section for $section {
            fn keys() -> Vec<$crate::setting::Key> {
                let default = Self::default();
                vec![$($crate::setting::Key {
                    name: stringify!($key),
                    doc: &[$($doc),*],
                    required: [$(stringify!($mark)),*].contains(&"required"),
                    live: [$(stringify!($mark)),*].contains(&"live"),
                    allowed: <$kind as $crate::setting::Setting>::allowed(),
                    default: $crate::setting::Setting::write(&default.$key),
                    example: [$($example)?].first().copied(),
                    inside: <$kind as $crate::setting::Setting>::inside(),
                }),*]
            }

            fn read_keys(
                path: &str,
                table: &$crate::document::Table,
                reader: &mut $crate::setting::Reader<'_>,
            ) -> Self {
                reader.refuse_unknown(path, table, &[$(stringify!($key)),*]);
                let mut section = Self::default();
                $(
                    if [$(stringify!($mark)),*].contains(&"required") {
                        reader.require(path, table, stringify!($key));
                    }
                    if let Some(value) = reader.key(path, table, stringify!($key)) {
                        section.$key = value;
                    }
                )*
                section
            }

            fn write_keys(&self) -> Vec<(&'static str, Option<String>)> {
                vec![$((stringify!($key), $crate::setting::Setting::write(&self.$key))),*]
            }

            fn changed_keys(
                &self,
                other: &Self,
                path: &str,
                out: &mut Vec<$crate::setting::Change>,
            ) {
                $(
                    let live = [$(stringify!($mark)),*].contains(&"live");
                    let key = $crate::setting::join(path, stringify!($key));
                    $crate::setting::Setting::changes(&self.$key, &other.$key, &key, live, out);
                )*
            }
        }

        impl $crate::setting::Setting for $section {
            fn allowed() -> String {
                "a table".to_owned()
            }

            fn read(
                path: &str,
                located: &$crate::document::Located,
                reader: &mut $crate::setting::Reader<'_>,
            ) -> Option<Self> {
                let $crate::document::Value::Table(table) = &located.value else {
                    let text = format!("`{path}` is {}, but must be a table", located.value);
                    reader.refuse(&located.origin, text);
                    return None;
                };
                Some($crate::setting::Section::read_keys(path, table, reader))
            }

            fn write(&self) -> Option<String> {
                let mut pairs = Vec::new();
                for (name, value) in $crate::setting::Section::write_keys(self) {
                    pairs.extend(value.map(|value| format!("{name} = {value}")));
                }
                Some(format!("{{ {} }}", pairs.join(", ")))
            }

            fn inside() -> Option<$crate::setting::Inside> {
                Some($crate::setting::Inside {
                    repeated: false,
                    keys: <Self as $crate::setting::Section>::keys(),
                })
            }

            fn changes(
                &self,
                other: &Self,
                path: &str,
                _live: bool,
                out: &mut Vec<$crate::setting::Change>,
            ) {
                $crate::setting::Section::changed_keys(self, other, path, out);
            }
        }
    };
}
pub(crate) use section;

/// Defines an enum whose variants are written as fixed texts.
macro_rules! choice {
    (
        $(#[doc = $about:literal])*
        pub enum $choice:ident {
            $($(#[doc = $doc:literal])* $variant:ident = $text:literal,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $choice {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $choice {
            /// Every variant, in the order of their definition.
            pub const ALL: &[$choice] = &[$($choice::$variant),*];

            /// As it is written in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($choice::$variant => $text,)*
                }
            }
        }

        impl $crate::setting::Scalar for $choice {
            fn allowed() -> String {
                let texts = [$(concat!("\"", $text, "\"")),*];
                format!("one of {}", texts.join(", "))
            }

            fn parse(
                value: &$crate::document::Value,
                _base: &std::path::Path,
            ) -> Option<Self> {
                let $crate::document::Value::Text(text) = value else { return None };
                Self::ALL.iter().copied().find(|choice| choice.as_str() == text)
            }

            fn write(&self) -> String {
                $crate::document::quoted(self.as_str())
            }
        }
    };
}
pub(crate) use choice;
