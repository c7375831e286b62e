//! Old and unstable paths that mean a stable endpoint.
//!
//! Clients in the field still say `r0`, or a proposal's own prefix from before it was accepted. They reach
//! the same handlers: the path is rewritten before routing. Only the client-server and media APIs are
//! touched, never federation, whose requests are signed over their path. An unstable endpoint without a stable equal is
//! not listed: it is routed (or not) under its own name.

use http::Uri;
use http::uri::PathAndQuery;

/// Prefixes of proposals under `/_matrix/client/unstable/` and the version that took them in.
const ACCEPTED: &[(&str, &str)] = &[
    ("fi.mau.msc2659/", "v1/"),
    ("org.matrix.msc2432/", "v3/"),
    ("org.matrix.msc2946/", "v1/"),
    ("org.matrix.msc2965/auth_metadata", "v1/auth_metadata"),
    ("org.matrix.msc3030/", "v1/"),
    ("org.matrix.msc3856/", "v1/"),
    ("org.matrix.msc3882/", "v1/"),
    ("org.matrix.msc3916/", "v1/"),
    ("org.matrix.msc4151/", "v3/"),
    ("org.matrix.msc4260/", "v3/"),
    ("uk.tcpip.msc4133/", "v3/"),
    ("xyz.amorgan.knock/", "v3/"),
];

/// The stable form of a URI, if it has another one.
pub(super) fn stable(uri: &Uri) -> Option<Uri> {
    let path = stable_path(uri.path())?;
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

fn stable_path(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/_matrix/")?;
    if let Some(rest) = rest.strip_prefix("client/") {
        // Nearly every request: decided by its first bytes.
        if rest.starts_with("v3/") {
            return None;
        }
        if let Some(rest) = rest
            .strip_prefix("r0/")
            .or_else(|| rest.strip_prefix("api/v1/"))
        {
            return Some(format!("/_matrix/client/v3/{rest}"));
        }
        return stable_of_unstable(rest.strip_prefix("unstable/")?);
    }
    let rest = rest.strip_prefix("media/")?;
    if let Some(rest) = rest.strip_prefix("r0/") {
        return Some(format!("/_matrix/media/v3/{rest}"));
    }
    if let Some(rest) = rest.strip_prefix("unstable/fi.mau.msc2246/") {
        return Some(format!("/_matrix/media/v1/{rest}"));
    }
    // `POST /_matrix/media/v1/create` is the one endpoint whose first version is the stable one.
    let rest = rest.strip_prefix("v1/").filter(|rest| *rest != "create")?;
    Some(format!("/_matrix/media/v3/{rest}"))
}

fn stable_of_unstable(rest: &str) -> Option<String> {
    let (namespace, tail) = rest.split_once('/').unwrap_or((rest, ""));
    // Without a proposal's namespace the whole API is meant, as Element does with
    // `/unstable/keys/device_signing/upload`.
    if !namespace.contains('.') {
        return Some(format!("/_matrix/client/v3/{rest}"));
    }
    if namespace == "im.nheko.summary" {
        let room = tail
            .strip_prefix("summary/")
            .or_else(|| tail.strip_prefix("rooms/")?.strip_suffix("/summary"))?;
        return Some(format!("/_matrix/client/v1/room_summary/{room}"));
    }
    let (prefix, version) = ACCEPTED
        .iter()
        .find(|(prefix, _)| rest.starts_with(prefix))?;
    Some(format!(
        "/_matrix/client/{version}{}",
        &rest[prefix.len()..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_unstable_paths_reach_the_stable_endpoint_with_their_query() {
        let cases = [
            (
                "/_matrix/client/r0/sync?since=s1",
                "/_matrix/client/v3/sync?since=s1",
            ),
            ("/_matrix/client/api/v1/login", "/_matrix/client/v3/login"),
            (
                "/_matrix/client/unstable/keys/device_signing/upload",
                "/_matrix/client/v3/keys/device_signing/upload",
            ),
            (
                "/_matrix/client/unstable/im.nheko.summary/rooms/%23a%3Ab.example/summary?via=c",
                "/_matrix/client/v1/room_summary/%23a%3Ab.example?via=c",
            ),
            (
                "/_matrix/client/unstable/im.nheko.summary/summary/!a",
                "/_matrix/client/v1/room_summary/!a",
            ),
            (
                "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata",
                "/_matrix/client/v1/auth_metadata",
            ),
            (
                "/_matrix/client/unstable/uk.tcpip.msc4133/profile/@a:b/m.tz",
                "/_matrix/client/v3/profile/@a:b/m.tz",
            ),
            (
                "/_matrix/media/r0/download/a/b",
                "/_matrix/media/v3/download/a/b",
            ),
            ("/_matrix/media/v1/upload", "/_matrix/media/v3/upload"),
        ];
        for (from, to) in cases {
            let found = stable(&from.parse().expect("a URI")).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), Some(to));
        }
    }

    #[test]
    fn stable_paths_and_those_of_others_stay_as_they_are() {
        let kept = [
            "/",
            "/_matrix/client/v3/sync",
            "/_matrix/client/v1/media/config",
            "/_matrix/client/versions",
            "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
            "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer",
            "/_matrix/media/v1/create",
            "/_matrix/media/v3/upload",
            "/_matrix/federation/unstable/org.matrix.msc3030/x",
            "/_synapse/admin/v1/register",
        ];
        for path in kept {
            assert_eq!(stable(&path.parse().expect("a URI")), None, "{path}");
        }
    }
}
