//! The content repository: uploads, downloads, thumbnails.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use testkit::{Client, Response, User};

use crate::server;

/// A picture of 400 by 200 pixels, red on the left and blue on the right.
const PICTURE: &str = "\
    iVBORw0KGgoAAAANSUhEUgAAAZAAAADICAIAAABJdyC1AAADAUlEQVR42u3UQQ0AAAjEMEQgB/85WZiAX5Na2CrT\
    cK4ncK6khWFhWBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFhgWhoVhgWFhWBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgY\
    FhgWhoVhgWFhWBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFhgWhoVhgWFhWBgWhqUuDAvDwrDAsDAsDAsMC8PCsMCw\
    MCwMCwwLw8KwwLAwLAwLDAvDwrDAsDAsDAsMC8PCsMCwMCwMCwwLw8KwwLAwLAwLDAvDwrDAsDAsDAsMC8PCsMCw\
    MCwMCwwLw8KwwLAwLAwLDAvDwrAwLHVhWBgWhgWGhWFhWGBYGBaGBYaFYWFYYFgYFoYFhoVhYVhgWBgWhgWGhWFh\
    WGBYGBaGBYaFYWFYYFgYFoYFhoVhYVhgWBgWhgWGhWFhWGBYGBaGBYaFYWFYYFgYFoYFhoVhYVhgWBgWhoVhgWFh\
    WBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFhgWhoVhgWFhWBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFhgWhoVhgWFh\
    WBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFhgWhoVhgbQwLAwLwwLDwrAwLDAsDAvDAsPCsDAsMCwMC8MCw8KwMCww\
    LAwLwwLDwrAwLDAsDAvDAsPCsDAsMCwMC8MCw8KwMCwwLAwLwwLDwrAwLDAsDAvDAsPCsDAsMCwMC8MCw8KwMCww\
    LAwLw8Kw1IVhYVgYFhgWhoVhgWFhWBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFhgWhoVhgWFhWBgWGBaGhWGBYWFY\
    GBYYFoaFYYFhYVgYFhgWhoVhgWFhWBgWGBaGhWGBYWFYGBYYFoaFYYFhYVgYFoalLgwLw8KwwLAwLAwLDAvDwrDA\
    sDAsDAsMC8PCsMCwMCwMCwwLw8KwwLAwLAwLDAvDwrDAsDAsDAsMC8PCsMCwMCwMCwwLw8KwwLAwLAwLDAvDwrDA\
    sDAsDAsMC8PCsMCw+LMPIt/8G75n6QAAAABJRU5ErkJggg==";

fn picture() -> Vec<u8> {
    BASE64.decode(PICTURE).expect("base64")
}

/// Uploads and gives `SERVER/MEDIA_ID`, the middle of every download path.
fn upload(user: &User, kind: &str, name: &str, content: &[u8]) -> String {
    let path = format!(
        "/_matrix/media/v3/upload?filename={}",
        testkit::encode(name)
    );
    let answer = user
        .exchange("POST", &path, &[("Content-Type", kind)], content.to_vec())
        .ok();
    let uri = answer["content_uri"].as_str().expect("a content URI");
    uri.strip_prefix("mxc://").expect("an mxc URI").to_owned()
}

fn download(client: &Client, media: &str) -> Response {
    client.get(&format!("/v1/media/download/{media}"))
}

/// The width and height that a PNG says it has.
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

#[test]
fn what_was_uploaded_is_downloaded_with_its_type_and_name() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let content = picture();
    let media = upload(&alice, "image/png", "two colours.png", &content);
    let answer = download(&bob, &media);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.body, content);
    assert_eq!(answer.header("content-type"), Some("image/png"));
    let disposition = answer.header("content-disposition").unwrap_or_default();
    assert!(disposition.starts_with("inline"), "{disposition}");
    assert!(
        disposition.replace("%20", " ").contains("two colours.png"),
        "{disposition}"
    );
    let renamed = bob.get(&format!("/v1/media/download/{media}/other.png"));
    let disposition = renamed.header("content-disposition").unwrap_or_default();
    assert!(disposition.contains("other.png"), "{disposition}");
}

#[test]
fn downloads_need_a_token_and_uploads_too() {
    let server = server();
    let alice = server.register("alice");
    let media = upload(&alice, "text/plain", "a.txt", b"text");
    download(&server.client(), &media).error(401, "M_MISSING_TOKEN");
    let path = "/_matrix/media/v3/upload";
    let answer = server
        .client()
        .exchange("POST", path, &[], b"text".to_vec());
    answer.error(401, "M_MISSING_TOKEN");
    server
        .client()
        .get("/v1/media/config")
        .error(401, "M_MISSING_TOKEN");
}

#[test]
fn content_that_a_browser_could_run_is_an_attachment() {
    let server = server();
    let alice = server.register("alice");
    for kind in [
        "text/html",
        "image/svg+xml",
        "application/xhtml+xml",
        "application/javascript",
    ] {
        let media = upload(&alice, kind, "page", b"<script>alert(1)</script>");
        let answer = download(&alice, &media);
        let disposition = answer.header("content-disposition").unwrap_or_default();
        assert!(
            disposition.starts_with("attachment"),
            "{kind}: {disposition}"
        );
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("sandbox"), "{kind}: {policy}");
    }
}

#[test]
fn names_with_quotes_newlines_and_other_letters_stay_in_the_header() {
    let server = server();
    let alice = server.register("alice");
    for name in [
        "a\"b;c.txt",
        "\u{65e5}\u{672c}.txt",
        "line\r\nSet-Cookie: x=y",
        "../../etc/x",
    ] {
        let media = upload(&alice, "text/plain", name, b"text");
        let answer = download(&alice, &media);
        assert_eq!(answer.status, 200, "{answer}");
        assert!(answer.header("set-cookie").is_none());
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let server = server();
    let alice = server.register("alice");
    let media = upload(&alice, "application/octet-stream", "empty", b"");
    let answer = download(&alice, &media);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn unknown_media_are_not_found() {
    let server = server();
    let alice = server.register("alice");
    for id in ["nosuchmedia", "..%2F..%2Fetc", "%00"] {
        let answer = download(&alice, &format!("{}/{id}", alice.server_name()));
        assert!(matches!(answer.status, 400 | 404), "{answer}");
    }
    let unknown = format!("{}/nosuchmedia", alice.server_name());
    download(&alice, &unknown).error(404, "M_NOT_FOUND");
    let thumbnail = format!("/v1/media/thumbnail/{unknown}?width=32&height=32");
    alice.get(&thumbnail).error(404, "M_NOT_FOUND");
}

#[test]
fn thumbnails_keep_the_shape_or_are_cropped() {
    let server = server();
    let alice = server.register("alice");
    let media = upload(&alice, "image/png", "picture.png", &picture());
    let thumbnail = |query: &str| {
        let answer = alice.get(&format!("/v1/media/thumbnail/{media}?{query}"));
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.header("content-type"), Some("image/png"));
        size(&answer.body)
    };
    let (width, height) = thumbnail("width=64&height=64&method=scale");
    assert_eq!(width, height * 2, "the shape stays");
    assert!((64..400).contains(&width), "{width}");
    let (width, height) = thumbnail("width=32&height=32&method=crop");
    assert_eq!(width, height);
    assert!((32..=96).contains(&width), "{width}");
    let (width, height) = thumbnail("width=2000&height=2000&method=scale");
    assert!(
        width <= 400 && height <= 200,
        "never larger than the picture: {width} {height}"
    );
}

#[test]
fn thumbnails_of_what_is_no_picture_are_refused() {
    let server = server();
    let alice = server.register("alice");
    let media = upload(&alice, "text/plain", "a.txt", b"no picture");
    let answer = alice.get(&format!("/v1/media/thumbnail/{media}?width=32&height=32"));
    assert!(matches!(answer.status, 400 | 404), "{answer}");
    let broken = upload(
        &alice,
        "image/png",
        "broken.png",
        b"\x89PNG\r\n\x1a\nand then nonsense",
    );
    let answer = alice.get(&format!("/v1/media/thumbnail/{broken}?width=32&height=32"));
    assert!(matches!(answer.status, 400 | 404), "{answer}");
    let wrong = alice.get(&format!("/v1/media/thumbnail/{media}?width=-1&height=32"));
    assert_eq!(wrong.status, 400, "{wrong}");
}

#[test]
fn the_configuration_tells_the_largest_upload() {
    let server = server();
    let alice = server.register("alice");
    let config = alice.get("/v1/media/config").ok();
    assert!(
        config["m.upload.size"]
            .as_u64()
            .is_some_and(|size| size > 0),
        "{config}"
    );
}

#[test]
fn an_upload_can_be_announced_and_sent_later() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let created = alice.post("/_matrix/media/v1/create", json!({})).ok();
    let uri = created["content_uri"]
        .as_str()
        .expect("a content URI")
        .to_owned();
    let media = uri.strip_prefix("mxc://").expect("an mxc URI");
    let early = bob.get(&format!("/v1/media/download/{media}?timeout_ms=0"));
    early.error(504, "M_NOT_YET_UPLOADED");
    let path = format!("/_matrix/media/v3/upload/{media}");
    let headers = [("Content-Type", "text/plain")];
    let stranger = bob.exchange("PUT", &path, &headers, b"of bob".to_vec());
    stranger.error(403, "M_FORBIDDEN");
    assert_eq!(
        alice
            .exchange("PUT", &path, &headers, b"of alice".to_vec())
            .status,
        200
    );
    assert_eq!(download(&bob, media).body, b"of alice");
    let again = alice.exchange("PUT", &path, &headers, b"again".to_vec());
    again.error(409, "M_CANNOT_OVERWRITE_MEDIA");
}

#[test]
fn a_download_waits_for_an_announced_upload() {
    let server = server();
    let alice = server.register("alice");
    let created = alice.post("/_matrix/media/v1/create", json!({})).ok();
    let uri = created["content_uri"]
        .as_str()
        .expect("a content URI")
        .to_owned();
    let media = uri.strip_prefix("mxc://").expect("an mxc URI");
    let body = std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| alice.get(&format!("/v1/media/download/{media}?timeout_ms=20000")));
        let path = format!("/_matrix/media/v3/upload/{media}");
        alice.exchange(
            "PUT",
            &path,
            &[("Content-Type", "text/plain")],
            b"at last".to_vec(),
        );
        waiting.join().expect("a download").body
    });
    assert_eq!(body, b"at last");
}
