//! Content types of media: which are well formed, and which may be shown inline.
//!
//! The type is the uploader's claim. It is given back as it came when it is one well-formed media type,
//! so that a browser and this server cannot read it differently; otherwise it is
//! `application/octet-stream`.

/// What content without a usable type is served as (content repository: default of `Content-Type`).
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Longer claims are not kept: they only bloat rows and headers.
const MAX_BYTES: usize = 255;

/// The types of the section "Serving inline content". Sorted, for the binary search.
const INLINE: [&str; 26] = [
    "application/json",
    "application/ld+json",
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/wave",
    "audio/webm",
    "audio/x-flac",
    "audio/x-pn-wav",
    "audio/x-wav",
    "image/apng",
    "image/avif",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/css",
    "text/csv",
    "text/plain",
    "video/mp4",
    "video/ogg",
    "video/quicktime",
    "video/webm",
];

/// The claim itself when it is one well-formed media type (RFC 9110, section 8.3.1), else
/// [`OCTET_STREAM`].
pub fn accept(claim: Option<&str>) -> &str {
    match claim {
        Some(claim) if is_well_formed(claim) => claim,
        _ => OCTET_STREAM,
    }
}

/// Whether content of this type may be served with `Content-Disposition: inline`.
pub fn is_inline(content_type: &str) -> bool {
    if !is_well_formed(content_type) {
        return false;
    }
    let essence = essence(content_type).to_ascii_lowercase();
    INLINE.binary_search(&essence.as_str()).is_ok()
}

/// `type/subtype` without parameters, in the case it was written in.
pub fn essence(content_type: &str) -> &str {
    let end = content_type.find(';').unwrap_or(content_type.len());
    content_type[..end].trim_matches([' ', '\t'])
}

/// `type/subtype *( ; name=value )`. Quoted values may hold neither `,` nor `\`: a reader that splits
/// the header at commas, as browsers do, must find the same type as we do.
fn is_well_formed(text: &str) -> bool {
    if text.len() > MAX_BYTES {
        return false;
    }
    let mut pieces = text.split(';');
    let essence = pieces
        .next()
        .unwrap_or_default()
        .trim_end_matches([' ', '\t']);
    let Some((main, sub)) = essence.split_once('/') else {
        return false;
    };
    is_token(main) && is_token(sub) && pieces.all(is_parameter)
}

fn is_parameter(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    // RFC 9110 lets parameters be empty ("text/plain;").
    if text.is_empty() {
        return true;
    }
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    let value_fits = match unquoted {
        Some(quoted) => quoted
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b',' | b'\\')),
        None => is_token(value),
    };
    is_token(name) && value_fits
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_inline_list_is_sorted() {
        assert!(INLINE.is_sorted());
    }

    #[test]
    fn a_well_formed_type_is_given_back_as_it_came() {
        for good in [
            "image/png",
            "text/plain; charset=utf-8",
            "Text/HTML;charset=\"utf-8\"",
            "application/ld+json",
            "text/plain;",
        ] {
            assert_eq!(accept(Some(good)), good);
        }
    }

    #[test]
    fn what_is_not_one_media_type_becomes_octet_stream() {
        for bad in [
            "",
            "png",
            "image/",
            "image/png, text/html",
            "image/png;a=\"x, text/html\"",
            "image/png\r\nX: y",
            "image/png; charset",
            "imäge/png",
            " image/png",
            "image/png;a=\"b\\\"",
        ] {
            assert_eq!(accept(Some(bad)), OCTET_STREAM, "{bad:?}");
        }
        assert_eq!(accept(None), OCTET_STREAM);
        assert_eq!(
            accept(Some(&format!("image/{}", "x".repeat(300)))),
            OCTET_STREAM
        );
    }

    #[test]
    fn only_the_listed_types_are_inline_whatever_their_case_and_parameters() {
        for inline in [
            "image/png",
            "IMAGE/PNG",
            "text/plain; charset=utf-8",
            "video/webm;codecs=vp9",
        ] {
            assert!(is_inline(inline), "{inline}");
        }
        for attachment in [
            "text/html",
            "image/svg+xml",
            "application/pdf",
            "application/xhtml+xml",
            "application/octet-stream",
            "image/png, text/html",
            "text/xml",
        ] {
            assert!(!is_inline(attachment), "{attachment}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_type_fits_into_one_header_line(claim in "\\PC{0,40}") {
            let accepted = accept(Some(&claim));
            prop_assert!(accepted.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert!(!accepted.contains(','));
        }
    }
}
