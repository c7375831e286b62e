//! The `Authorization: X-Matrix` header, written and read, and what its signature covers.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
//!
//! Deliberately not here: which key counts. Reading tells what a request claims, nothing more.

use event::canonical::{self, CanonicalError};
use event::json::write_string;
use event::{NumberRule, SigningKey};

/// What one header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The server that says it sends the request.
    pub origin: String,
    /// The server it is for; old servers do not say.
    pub destination: Option<String>,
    /// The id of the key that signed.
    pub key: String,
    /// The signature in base64.
    pub sig: String,
}

/// The scheme's name; schemes have no case.
const SCHEME: &str = "X-Matrix";

/// The most parameters of a header that are looked at.
const MOST_PARAMETERS: usize = 16;

impl Authorization {
    /// Reads the value of a header. `None` if it is of another scheme, or breaks the grammar.
    ///
    /// Names of parameters have no case and come in any order; unknown ones are left out. Values may be quoted or
    /// not: beyond the grammar of tokens, values without quotes may hold colons and what base64 is made of, since
    /// old servers send such.
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, mut rest) = value.trim_start().split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let [mut origin, mut destination, mut key, mut sig] = [const { None }; 4];
        for _ in 0..MOST_PARAMETERS {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = parameter_value(after.trim_start_matches([' ', '\t']))?;
            let slot = match name.trim_end().to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                // The specification's list of parameters has the long name, its examples and all servers the short one.
                "sig" | "signature" => &mut sig,
                _ => &mut None,
            };
            // Twice the same could be read by others the other way.
            if slot.replace(value).is_some() {
                return None;
            }
            rest = after;
        }
        Some(Self {
            origin: origin?,
            destination,
            key: key?,
            sig: sig?,
        })
    }

    /// Signs a request of the key's server; `content` is its body, a JSON object.
    ///
    /// # Errors
    /// If `content` is no JSON.
    pub fn sign(
        signing_key: &SigningKey,
        destination: &str,
        method: &str,
        uri: &str,
        content: Option<&str>,
    ) -> Result<Self, CanonicalError> {
        let origin = signing_key.server_name();
        let signed = signed_bytes(method, uri, origin, destination, content)?;
        Ok(Self {
            origin: origin.to_owned(),
            destination: Some(destination.to_owned()),
            key: signing_key.key_id().to_owned(),
            sig: signing_key.sign_bytes(&signed),
        })
    }

    /// The value of the header.
    pub fn to_header(&self) -> String {
        let mut header = format!("{SCHEME} origin={}", quoted(&self.origin));
        if let Some(destination) = &self.destination {
            header.push_str(&format!(",destination={}", quoted(destination)));
        }
        let (key, sig) = (quoted(&self.key), quoted(&self.sig));
        header.push_str(&format!(",key={key},sig={sig}"));
        header
    }
}

/// A value in quotes. Names, keys and signatures have nothing in them that needs a backslash.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A value and what follows it, which is nothing or begins with a comma or white space.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        return (!value.is_empty() && value.bytes().all(good)).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = quoted.get(at + 1..)?;
                let ended = rest.is_empty() || rest.starts_with([',', ' ', '\t']);
                return ended.then_some((value, rest));
            }
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// What a request's signature is over: canonical JSON of the request. `content` is the body, if there is one.
///
/// # Errors
/// If `content` is no JSON.
pub fn signed_bytes(
    method: &str,
    uri: &str,
    origin: &str,
    destination: &str,
    content: Option<&str>,
) -> Result<Vec<u8>, CanonicalError> {
    let content = match content {
        // Events of old room versions may have numbers that canonical JSON does not know.
        Some(content) => Some(canonical::from_text(content, NumberRule::Any)?),
        None => None,
    };
    let length = content.as_ref().map_or(0, |content| content.len());
    let mut out = Vec::with_capacity(length + uri.len() + 256);
    out.push(b'{');
    if let Some(content) = content {
        out.extend_from_slice(b"\"content\":");
        out.extend_from_slice(content.as_bytes());
        out.push(b',');
    }
    for (name, value) in [
        ("\"destination\":", destination),
        (",\"method\":", method),
        (",\"origin\":", origin),
        (",\"uri\":", uri),
    ] {
        out.extend_from_slice(name.as_bytes());
        write_string(&mut out, value);
    }
    out.push(b'}');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(destination: Option<&str>) -> Authorization {
        Authorization {
            origin: "a.example:8448".to_owned(),
            destination: destination.map(str::to_owned),
            key: "ed25519:key1".to_owned(),
            sig: "abc+/DEF".to_owned(),
        }
    }

    #[test]
    fn all_forms_of_the_header_say_the_same() {
        for text in [
            r#"X-Matrix origin="a.example:8448",destination="b.example",key="ed25519:key1",sig="abc+/DEF""#,
            "X-Matrix origin=a.example:8448,destination=b.example,key=ed25519:key1,sig=abc+/DEF",
            "x-matrix   sig=abc+/DEF , KEY = \"ed25519:key1\" ,Destination=b.example\t,, origin=a.example:8448",
            r#"X-Matrix origin="a.ex\ample:8448",destination="b.example",key="ed25519:key1",sig="abc+/DEF",more="x,y=z""#,
        ] {
            let read = Authorization::parse(text);
            assert_eq!(read, Some(authorization(Some("b.example"))), "{text}");
        }
        let old = r#"X-Matrix origin="a.example:8448",key="ed25519:key1",sig="abc+/DEF""#;
        assert_eq!(Authorization::parse(old), Some(authorization(None)));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for destination in [None, Some("[::1]:8448"), Some(r#"a"b\c"#)] {
            let written = authorization(destination);
            assert_eq!(
                Authorization::parse(&written.to_header()),
                Some(written.clone())
            );
        }
    }

    #[test]
    fn whatever_breaks_the_grammar_or_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "X-Matrix",
            "X-Matrix ",
            "Bearer abc",
            "X-Matrix origin=a,key=b",
            "X-Matrix origin,key=b,sig=c",
            "X-Matrix origin=a,key=b,sig=",
            "X-Matrix origin=a,key=b,sig=\"c",
            "X-Matrix origin=a,key=b,sig=\"c\\",
            "X-Matrix origin=a,key=b,sig=\"c\"d",
            "X-Matrix origin=a,origin=b,key=b,sig=c",
            "X-Matrix origin=\u{e9},key=b,sig=c",
        ] {
            assert_eq!(Authorization::parse(text), None, "{text}");
        }
        let endless = format!("X-Matrix {}origin=a,key=b,sig=c", "x=y,".repeat(100));
        assert_eq!(Authorization::parse(&endless), None);
    }

    #[test]
    fn the_signature_is_over_canonical_json_of_the_request() {
        let bytes = signed_bytes("GET", "/x?y=%20", "a", "b", None).expect("no content");
        let expected = r#"{"destination":"b","method":"GET","origin":"a","uri":"/x?y=%20"}"#;
        assert_eq!(bytes, expected.as_bytes());
        let bytes = signed_bytes("PUT", "/x", "a", "b", Some("{ \"b\": 1, \"a\": [] }"));
        let expected = r#"{"content":{"a":[],"b":1},"destination":"b","method":"PUT","origin":"a","uri":"/x"}"#;
        assert_eq!(bytes.expect("content"), expected.as_bytes());
        assert!(signed_bytes("PUT", "/x", "a", "b", Some("{")).is_err());
    }

    #[test]
    fn a_signed_request_is_verified_with_the_public_key_and_no_other_request_is() {
        let key = SigningKey::from_seed("a.example", "1", [7; 32]).expect("a key");
        let body = r#"{"pdus":[]}"#;
        let signed = Authorization::sign(&key, "b.example", "PUT", "/send/1", Some(body));
        let signed = signed.expect("JSON");
        let verifies = |uri: &str, destination: &str| {
            let bytes = signed_bytes("PUT", uri, &signed.origin, destination, Some(body));
            key.verify_key()
                .verifies(&bytes.expect("JSON"), &signed.sig)
        };
        assert!(verifies("/send/1", "b.example"));
        assert!(!verifies("/send/2", "b.example"));
        assert!(!verifies("/send/1", "c.example"));
    }
}
