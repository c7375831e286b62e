//! Opens pictures: what a file says about itself, its first picture, its frames.
//!
//! Invariant: [`inspect`] has checked the claimed size against the limits before any pixel is decoded.

use std::io::{BufRead, ErrorKind, Read, Seek, SeekFrom};

use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::{LoopCount, Orientation};
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageError, ImageFormat};

use super::Limits;
use super::geometry::Size;
use super::header;
use crate::MediaError;

/// The formats that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gif,
    Jpeg,
    Png,
    WebP,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Gif => "image/gif",
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::WebP => "image/webp",
        }
    }
}

/// What a file says about itself.
pub(super) struct Picture {
    pub format: Format,
    /// Size as stored, before the rotation.
    pub size: Size,
    /// How the camera was held.
    pub orientation: Orientation,
    /// Colour profile worth handing on, see [`usable_profile`].
    pub colour_profile: Option<Vec<u8>>,
    /// Whether it may hold more than one frame. A GIF says so only by its frames.
    pub maybe_animated: bool,
}

impl Picture {
    /// The size as it is seen.
    pub fn seen_size(&self) -> Size {
        if self.is_turned() {
            self.size.turned()
        } else {
            self.size
        }
    }

    /// Whether width and height change places when it is shown.
    pub fn is_turned(&self) -> bool {
        matches!(
            self.orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    }
}

pub(super) fn broken(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(_) => MediaError::PictureTooLarge,
        // The decoders report a file that ends early, or nonsense in it, as these kinds; any other
        // kind is the disk's.
        ImageError::IoError(error)
            if !matches!(
                error.kind(),
                ErrorKind::UnexpectedEof
                    | ErrorKind::InvalidData
                    | ErrorKind::InvalidInput
                    | ErrorKind::Other
            ) =>
        {
            error.into()
        }
        other => MediaError::NotThumbnailable {
            reason: other.to_string(),
        },
    }
}

/// Reads the headers and checks them against the limits.
pub(super) fn inspect<R: BufRead + Seek>(
    reader: &mut R,
    limits: &Limits,
) -> Result<Picture, MediaError> {
    let format = sniff(reader)?;
    reader.rewind()?;
    match format {
        Format::Jpeg => {
            let progressive = header::jpeg_is_progressive(reader).unwrap_or(false);
            reader.rewind()?;
            let decoder = JpegDecoder::new(reader).map_err(broken)?;
            // Three bytes for a pixel, and three coefficients of two bytes each.
            let cost = if progressive { 9 } else { 3 };
            describe(decoder, format, false, cost, limits)
        }
        Format::Png => {
            let decoder =
                PngDecoder::with_limits(reader, decoder_limits(limits)).map_err(broken)?;
            let animated = decoder.is_apng().map_err(broken)?;
            let stored = u64::from(decoder.color_type().bytes_per_pixel());
            // As stored, and as eight bits for each colour; or the canvases of an animation.
            describe(decoder, format, animated, (stored + 4).max(12), limits)
        }
        Format::Gif => {
            let decoder = GifDecoder::new(reader).map_err(broken)?;
            describe(decoder, format, true, 12, limits)
        }
        Format::WebP => {
            let largest = header::webp_largest_frame(reader)
                .map_err(|error| broken(ImageError::IoError(error)))?;
            reader.rewind()?;
            let decoder = WebPDecoder::new(reader).map_err(broken)?;
            let (width, height) = decoder.dimensions();
            if largest.is_some_and(|largest| largest.pixels() > Size { width, height }.pixels()) {
                let reason = "a frame larger than the picture".to_owned();
                return Err(MediaError::NotThumbnailable { reason });
            }
            let animated = decoder.has_animation();
            describe(
                decoder,
                format,
                animated,
                if animated { 16 } else { 8 },
                limits,
            )
        }
    }
}

/// The first picture, decoded.
pub(super) fn still<R: BufRead + Seek>(
    reader: &mut R,
    picture: &Picture,
    limits: &Limits,
) -> Result<DynamicImage, MediaError> {
    reader.rewind()?;
    let image = match picture.format {
        Format::Jpeg => JpegDecoder::new(reader).and_then(DynamicImage::from_decoder),
        Format::WebP => WebPDecoder::new(reader).and_then(DynamicImage::from_decoder),
        Format::Png => PngDecoder::with_limits(reader, decoder_limits(limits))
            .and_then(DynamicImage::from_decoder),
        Format::Gif => GifDecoder::new(reader).and_then(|mut decoder| {
            decoder.set_limits(decoder_limits(limits))?;
            DynamicImage::from_decoder(decoder)
        }),
    };
    image.map_err(broken)
}

/// The frames of a picture that may move, and how often it repeats (0: for ever).
pub(super) fn frames<'a, R: BufRead + Seek>(
    reader: &'a mut R,
    picture: &Picture,
    limits: &Limits,
) -> Result<(Frames<'a>, u16), MediaError> {
    reader.rewind()?;
    match picture.format {
        Format::Gif => {
            let mut decoder = GifDecoder::new(reader).map_err(broken)?;
            decoder.set_limits(decoder_limits(limits)).map_err(broken)?;
            let count = repetitions(decoder.loop_count());
            Ok((decoder.into_frames(), count))
        }
        Format::WebP => {
            let decoder = WebPDecoder::new(reader).map_err(broken)?;
            let count = repetitions(decoder.loop_count());
            Ok((decoder.into_frames(), count))
        }
        Format::Png => {
            let decoder =
                PngDecoder::with_limits(reader, decoder_limits(limits)).map_err(broken)?;
            let decoder = decoder.apng().map_err(broken)?;
            let count = repetitions(decoder.loop_count());
            Ok((decoder.into_frames(), count))
        }
        Format::Jpeg => Ok((Frames::new(Box::new(std::iter::empty())), 1)),
    }
}

fn repetitions(count: LoopCount) -> u16 {
    match count {
        LoopCount::Infinite => 0,
        LoopCount::Finite(times) => u16::try_from(times.get()).unwrap_or(u16::MAX),
    }
}

fn sniff<R: BufRead + Seek>(reader: &mut R) -> Result<Format, MediaError> {
    reader.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(32);
    reader.take(32).read_to_end(&mut head)?;
    match image::guess_format(&head) {
        Ok(ImageFormat::Gif) => Ok(Format::Gif),
        Ok(ImageFormat::Jpeg) => Ok(Format::Jpeg),
        Ok(ImageFormat::Png) => Ok(Format::Png),
        Ok(ImageFormat::WebP) => Ok(Format::WebP),
        _ => Err(MediaError::NotThumbnailable {
            reason: "not a known picture format".to_owned(),
        }),
    }
}

/// `bytes_per_pixel`: the most that decoding holds at once for each pixel.
fn describe(
    mut decoder: impl ImageDecoder,
    format: Format,
    maybe_animated: bool,
    bytes_per_pixel: u64,
    limits: &Limits,
) -> Result<Picture, MediaError> {
    let (width, height) = decoder.dimensions();
    let size = Size { width, height };
    if size.pixels() == 0 {
        return Err(MediaError::NotThumbnailable {
            reason: "an empty picture".to_owned(),
        });
    }
    let decode_bytes = size.pixels().saturating_mul(bytes_per_pixel);
    if size.pixels() > limits.max_pixels || decode_bytes > limits.max_decode_bytes {
        return Err(MediaError::PictureTooLarge);
    }
    // Broken metadata is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let colour_profile = decoder
        .icc_profile()
        .ok()
        .flatten()
        .filter(|profile| usable_profile(profile));
    Ok(Picture {
        format,
        size,
        orientation,
        colour_profile,
        maybe_animated,
    })
}

/// A profile is handed on when it is for red, green and blue, which the thumbnail is made of, and
/// small: phones write half a kilobyte, printers megabytes.
fn usable_profile(profile: &[u8]) -> bool {
    profile.len() <= 4096 && profile.get(16..20) == Some(b"RGB ")
}

fn decoder_limits(limits: &Limits) -> image::Limits {
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.max_decode_bytes);
    decoder_limits
}
