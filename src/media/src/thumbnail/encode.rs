//! Encodes still thumbnails: PNG where transparency or sharp edges are likely, JPEG for photographs.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder};

use super::Rendered;
use super::decode::{Format, broken};
use crate::MediaError;

/// Above this the bytes grow faster than what the eye sees.
const JPEG_QUALITY: u8 = 82;

/// Encodes a picture that came from a file of the given format.
pub(super) fn encode(
    image: DynamicImage,
    source: Format,
    colour_profile: Option<Vec<u8>>,
) -> Result<Rendered, MediaError> {
    let translucent = match &image {
        DynamicImage::ImageRgba8(pixels) => pixels.as_raw().chunks_exact(4).any(|p| p[3] != 255),
        _ => false,
    };
    let photograph = matches!(source, Format::Jpeg | Format::WebP) && !translucent;
    let (width, height) = (image.width(), image.height());
    let mut bytes = Vec::new();
    if photograph {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        write(
            encoder,
            &image.into_rgb8(),
            ExtendedColorType::Rgb8,
            width,
            height,
            colour_profile,
        )?;
    } else if translucent {
        let encoder = PngEncoder::new(&mut bytes);
        write(
            encoder,
            &image.into_rgba8(),
            ExtendedColorType::Rgba8,
            width,
            height,
            colour_profile,
        )?;
    } else {
        let encoder = PngEncoder::new(&mut bytes);
        write(
            encoder,
            &image.into_rgb8(),
            ExtendedColorType::Rgb8,
            width,
            height,
            colour_profile,
        )?;
    }
    let content_type = if photograph {
        "image/jpeg"
    } else {
        "image/png"
    };
    Ok(Rendered {
        bytes,
        content_type,
        width,
        height,
        animated: false,
    })
}

fn write(
    mut encoder: impl ImageEncoder,
    pixels: &[u8],
    colour: ExtendedColorType,
    width: u32,
    height: u32,
    colour_profile: Option<Vec<u8>>,
) -> Result<(), MediaError> {
    if let Some(profile) = colour_profile {
        // A profile that the encoder cannot carry is left out.
        let _ = encoder.set_icc_profile(profile);
    }
    encoder
        .write_image(pixels, width, height, colour)
        .map_err(broken)
}
