//! `event_fields` of a filter: of each event only the chosen fields.
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use serde_json::{Map, Value};

/// Fields as paths of names; a dot in a name is written `\.`.
pub struct Fields(Vec<Vec<String>>);

impl Fields {
    /// Reads the paths of a filter.
    pub fn new(paths: &[String]) -> Self {
        Self(paths.iter().map(|path| split(path)).collect())
    }

    /// Replaces the JSON list of events that begins at `start` in `out` by the same events with the
    /// chosen fields alone.
    pub fn choose(&self, out: &mut Vec<u8>, start: usize) {
        let Ok(mut events) = serde_json::from_slice::<Vec<Value>>(&out[start..]) else {
            return;
        };
        for event in &mut events {
            let mut chosen = Value::Object(Map::new());
            for path in &self.0 {
                copy(event, &mut chosen, path);
            }
            *event = chosen;
        }
        out.truncate(start);
        out.extend_from_slice(Value::Array(events).to_string().as_bytes());
    }
}

fn split(path: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut escaped = false;
    for letter in path.chars() {
        match letter {
            '\\' if !escaped => escaped = true,
            '.' if !escaped => names.push(String::new()),
            other => {
                if escaped && other != '.' && other != '\\' {
                    names
                        .last_mut()
                        .into_iter()
                        .for_each(|name| name.push('\\'));
                }
                names
                    .last_mut()
                    .into_iter()
                    .for_each(|name| name.push(other));
                escaped = false;
            }
        }
    }
    names
}

fn copy(from: &Value, to: &mut Value, path: &[String]) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    let (Some(value), Value::Object(object)) = (from.get(name), to) else {
        return;
    };
    if rest.is_empty() {
        object.insert(name.clone(), value.clone());
    } else if value.is_object() {
        let inner = object
            .entry(name.clone())
            .or_insert_with(|| Value::Object(Map::new()));
        copy(value, inner, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_choose_fields_at_any_depth_and_dots_can_be_escaped() {
        let paths = [
            "type".to_owned(),
            "content.body".to_owned(),
            r"content.m\.x.y".to_owned(),
        ];
        let mut out = br#"{"events":[{"type":"t","sender":"s","content":{"body":"b","m.x":{"y":1,"z":2},"o":3}}]"#.to_vec();
        Fields::new(&paths).choose(&mut out, 10);
        let events: Value = serde_json::from_slice(&out[10..]).unwrap();
        let expected = serde_json::json!([
            { "type": "t", "content": { "body": "b", "m.x": { "y": 1 } } }
        ]);
        assert_eq!(events, expected);
    }
}
