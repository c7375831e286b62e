//! Thumbnails: which size answers a request, and its rendering under limits.
//!
//! [`ThumbnailSpec::for_request`] rounds a request up to one of few sizes, so that a picture has few
//! renderings to store; [`render`] makes one. Hostile pictures are the normal case: the claimed size is
//! checked before pixels are decoded, every read looks at the deadline, and a panic in a decoder
//! becomes an error.
//!
//! Not here: storing renderings, and how many run at once (the shell's bound; each takes at most
//! [`Limits::max_decode_bytes`] besides its input).

mod animation;
mod decode;
mod encode;
mod geometry;
mod header;
mod render;
mod spec;
#[cfg(test)]
mod tests;

pub use render::render;
pub use spec::{Limits, Method, ThumbnailSpec};

/// The answer to a thumbnail request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thumbnail {
    /// The uploaded content itself is the right answer: it is not larger than what was asked for
    /// (thumbnails are never enlarged), or larger than the largest rendering.
    Original {
        /// The content type that its bytes show, whatever the uploader claimed.
        content_type: &'static str,
    },
    /// A smaller picture.
    Rendered(Rendered),
}

/// A rendered thumbnail.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The encoded picture.
    pub bytes: Vec<u8>,
    /// `image/jpeg`, `image/png` or, when animated, `image/webp`.
    pub content_type: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether it moves.
    pub animated: bool,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Rendered")
            .field("bytes", &self.bytes.len())
            .field("content_type", &self.content_type)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("animated", &self.animated)
            .finish()
    }
}
