//! Pictures made in code, through the whole renderer.

use std::io::{Cursor, Seek, SeekFrom};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPDecoder;
use image::{
    AnimationDecoder, Delay, DynamicImage, ExtendedColorType, Frame, ImageEncoder, ImageFormat,
    Rgb, RgbImage, Rgba, RgbaImage,
};
use proptest::prelude::*;

use super::animation::AnimationWriter;
use super::geometry::Size;
use super::*;
use crate::MediaError;

const RED: Rgb<u8> = Rgb([220, 20, 20]);
const BLUE: Rgb<u8> = Rgb([20, 20, 220]);

/// Red in its left half, blue in its right.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { RED } else { BLUE })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn halves_as(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb8(halves(width, height)), format)
}

/// A square of 40 that wanders over a grained canvas of 400 by 300.
fn wandering_square(step: u32) -> RgbaImage {
    RgbaImage::from_fn(400, 300, |x, y| {
        let inside = x.wrapping_sub(step * 20) < 40 && y.wrapping_sub(100) < 40;
        let grain = (x * 31 + y * 17 + x * y) % 61;
        if inside {
            Rgba([255, 200, 0, 255])
        } else {
            Rgba([0, 60 + grain as u8, 0, 255])
        }
    })
}

fn moving_gif(frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(Repeat::Infinite).unwrap();
    for step in 0..frames {
        let delay = Delay::from_numer_denom_ms(80, 1);
        encoder
            .encode_frame(Frame::from_parts(wandering_square(step), 0, 0, delay))
            .unwrap();
    }
    drop(encoder);
    bytes
}

fn moving_webp(frames: u32) -> Vec<u8> {
    let mut writer = AnimationWriter::new(Size {
        width: 400,
        height: 300,
    });
    for step in 0..frames {
        writer.push(wandering_square(step).into_raw(), 80).unwrap();
    }
    writer.finish(0)
}

fn moving_png(frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 400, 300);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_animated(frames, 0).unwrap();
    encoder.set_frame_delay(80, 1000).unwrap();
    let mut writer = encoder.write_header().unwrap();
    for step in 0..frames {
        writer
            .write_image_data(wandering_square(step).as_raw())
            .unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn spec(width: u32, height: u32, method: Method, animated: bool) -> ThumbnailSpec {
    ThumbnailSpec {
        width,
        height,
        method,
        animated,
    }
}

fn try_render(content: &[u8], spec: ThumbnailSpec) -> Result<Thumbnail, MediaError> {
    render(&mut Cursor::new(content), &spec, &Limits::default())
}

fn rendered(content: &[u8], spec: ThumbnailSpec) -> Rendered {
    match try_render(content, spec).unwrap() {
        Thumbnail::Rendered(rendered) => rendered,
        original => panic!("{original:?}"),
    }
}

/// Decodes a rendering and checks that it is what it says.
fn pixels_of(rendered: &Rendered) -> RgbImage {
    let format = match rendered.content_type {
        "image/jpeg" => ImageFormat::Jpeg,
        "image/png" => ImageFormat::Png,
        "image/webp" => ImageFormat::WebP,
        other => panic!("{other}"),
    };
    let image = image::load_from_memory_with_format(&rendered.bytes, format).unwrap();
    assert_eq!(
        (image.width(), image.height()),
        (rendered.width, rendered.height)
    );
    image.into_rgb8()
}

fn is_close(found: Rgb<u8>, wanted: Rgb<u8>) -> bool {
    found
        .0
        .iter()
        .zip(wanted.0)
        .all(|(&found, wanted)| found.abs_diff(wanted) < 30)
}

#[test]
fn each_still_format_is_scaled_within_the_size() {
    for (format, content_type) in [
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Gif, "image/png"),
        (ImageFormat::WebP, "image/jpeg"),
    ] {
        let content = halves_as(format, 1000, 400);
        let thumbnail = rendered(&content, spec(320, 240, Method::Scale, false));
        assert_eq!(thumbnail.content_type, content_type);
        assert_eq!((thumbnail.width, thumbnail.height), (320, 128));
        let pixels = pixels_of(&thumbnail);
        assert!(is_close(*pixels.get_pixel(10, 64), RED), "{format:?}");
        assert!(is_close(*pixels.get_pixel(309, 64), BLUE), "{format:?}");
    }
}

#[test]
fn crop_keeps_the_middle() {
    // Green margins left and right of a red middle: a square crop must cut them off.
    let image = RgbImage::from_fn(600, 200, |x, _| {
        if (200..400).contains(&x) {
            RED
        } else {
            Rgb([0, 255, 0])
        }
    });
    let content = encoded(&DynamicImage::ImageRgb8(image), ImageFormat::Png);
    let thumbnail = rendered(&content, spec(96, 96, Method::Crop, false));
    assert_eq!((thumbnail.width, thumbnail.height), (96, 96));
    for (x, y) in [(0, 0), (95, 95), (48, 48)] {
        assert!(is_close(*pixels_of(&thumbnail).get_pixel(x, y), RED));
    }
}

#[test]
fn a_picture_within_the_size_is_answered_with_the_original() {
    let content = halves_as(ImageFormat::Png, 200, 100);
    assert_eq!(
        try_render(&content, spec(320, 240, Method::Scale, false)).unwrap(),
        Thumbnail::Original {
            content_type: "image/png"
        }
    );
}

#[test]
fn transparency_is_kept() {
    let image = RgbaImage::from_fn(400, 400, |x, _| {
        if x < 200 {
            Rgba([255, 0, 0, 0])
        } else {
            Rgba([0, 0, 255, 255])
        }
    });
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let content = encoded(&DynamicImage::ImageRgba8(image.clone()), format);
        let thumbnail = rendered(&content, spec(96, 96, Method::Crop, false));
        assert_eq!(thumbnail.content_type, "image/png");
        let pixels = image::load_from_memory(&thumbnail.bytes)
            .unwrap()
            .into_rgba8();
        assert_eq!(pixels.get_pixel(10, 40).0[3], 0, "{format:?}");
        // Colour hidden under transparency does not bleed into what is seen.
        assert!(pixels.get_pixel(90, 40).0[0] < 10, "{format:?}");
    }
}

#[test]
fn sixteen_bit_and_grey_pictures_are_rendered() {
    for image in [
        DynamicImage::ImageRgb8(halves(400, 400))
            .into_rgb16()
            .into(),
        DynamicImage::ImageRgb8(halves(400, 400))
            .into_luma8()
            .into(),
        DynamicImage::ImageRgb8(halves(400, 400))
            .into_luma_alpha16()
            .into(),
    ] {
        let image: DynamicImage = image;
        let content = encoded(&image, ImageFormat::Png);
        let thumbnail = rendered(&content, spec(96, 96, Method::Crop, false));
        let (left, right) = (
            *pixels_of(&thumbnail).get_pixel(5, 5),
            *pixels_of(&thumbnail).get_pixel(90, 5),
        );
        assert!(left.0[0] > right.0[0], "{:?}", image.color());
    }
}

/// A JPEG with an EXIF segment that holds nothing but the orientation.
fn jpeg_held(orientation: u8) -> Vec<u8> {
    let jpeg = halves_as(ImageFormat::Jpeg, 800, 400);
    let mut exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

#[test]
fn a_photograph_is_turned_the_way_the_camera_was_held() {
    // (orientation, size, where the red half is)
    for (orientation, size, red_at) in [
        (1, (320, 160), (10, 80)),
        (2, (320, 160), (309, 80)),
        (3, (320, 160), (309, 80)),
        (4, (320, 160), (10, 80)),
        (5, (120, 240), (60, 10)),
        (6, (120, 240), (60, 10)),
        (7, (120, 240), (60, 229)),
        (8, (120, 240), (60, 229)),
    ] {
        let content = jpeg_held(orientation);
        let thumbnail = rendered(&content, spec(320, 240, Method::Scale, false));
        assert_eq!((thumbnail.width, thumbnail.height), size, "{orientation}");
        let (x, y) = red_at;
        assert!(
            is_close(*pixels_of(&thumbnail).get_pixel(x, y), RED),
            "{orientation}"
        );
    }
}

#[test]
fn a_colour_profile_for_red_green_and_blue_is_handed_on_and_any_other_is_not() {
    for (space, kept) in [(b"RGB ", true), (b"CMYK", false), (b"GRAY", false)] {
        let mut profile = vec![0; 128];
        profile[16..20].copy_from_slice(space);
        let mut content = Vec::new();
        let mut encoder = PngEncoder::new(&mut content);
        encoder.set_icc_profile(profile.clone()).unwrap();
        encoder
            .write_image(&halves(400, 400), 400, 400, ExtendedColorType::Rgb8)
            .unwrap();
        let thumbnail = rendered(&content, spec(96, 96, Method::Crop, false));
        let mut decoder =
            image::codecs::png::PngDecoder::new(Cursor::new(&thumbnail.bytes)).unwrap();
        let handed_on = image::ImageDecoder::icc_profile(&mut decoder).unwrap();
        assert_eq!(handed_on, kept.then_some(profile));
    }
}

#[test]
fn a_moving_picture_moves_on_as_webp_when_asked() {
    for content in [moving_gif(10), moving_webp(10), moving_png(10)] {
        let thumbnail = rendered(&content, spec(96, 96, Method::Crop, true));
        assert_eq!(
            (thumbnail.content_type, thumbnail.animated),
            ("image/webp", true)
        );
        let decoder = WebPDecoder::new(Cursor::new(&thumbnail.bytes)).unwrap();
        let frames = decoder.into_frames().collect_frames().unwrap();
        assert!((5..=10).contains(&frames.len()), "{}", frames.len());
        let total: u32 = frames
            .iter()
            .map(|frame| frame.delay().numer_denom_ms().0)
            .sum();
        assert_eq!(total, 800);
        assert_eq!(frames[0].buffer().dimensions(), (96, 96));
    }
}

#[test]
fn a_moving_picture_stands_still_when_not_asked_to_move() {
    for content in [moving_gif(4), moving_webp(4), moving_png(4)] {
        for size in [96, 800] {
            // Also when it is within the size, so that the original would do if it did not move.
            let thumbnail = rendered(&content, spec(size, size, Method::Crop, false));
            assert!(!thumbnail.animated);
            assert!(["image/jpeg", "image/png"].contains(&thumbnail.content_type));
            assert!(!thumbnail.bytes.windows(4).any(|name| name == b"acTL"));
            let image = image::load_from_memory(&thumbnail.bytes).unwrap();
            assert!(image.width() <= size);
        }
    }
}

#[test]
fn a_moving_picture_within_the_size_is_the_original_when_asked_to_move() {
    assert_eq!(
        try_render(&moving_gif(4), spec(800, 800, Method::Scale, true)).unwrap(),
        Thumbnail::Original {
            content_type: "image/gif"
        }
    );
}

#[test]
fn a_picture_that_cannot_move_ignores_the_wish() {
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::WebP,
    ] {
        let content = halves_as(format, 400, 400);
        assert!(!rendered(&content, spec(96, 96, Method::Crop, true)).animated);
    }
}

#[test]
fn too_many_frames_are_answered_with_a_still() {
    let mut limits = Limits {
        max_frames: 3,
        ..Limits::default()
    };
    let content = moving_gif(4);
    let wish = spec(96, 96, Method::Crop, true);
    let render_with = |limits: &Limits| match render(&mut Cursor::new(&content), &wish, limits) {
        Ok(Thumbnail::Rendered(rendered)) => rendered.animated,
        other => panic!("{other:?}"),
    };
    assert!(!render_with(&limits));
    limits.max_frames = 4;
    assert!(render_with(&limits));
    limits.max_animation_pixels = 400 * 300 * 3;
    assert!(!render_with(&limits));
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let mut png = Vec::new();
    // A header alone is enough to claim three thousand million pixels.
    let mut encoder = png::Encoder::new(&mut png, 60_000, 60_000);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, &[0x78, 0x9c]).unwrap();
    drop(writer);
    let mut jpeg = halves_as(ImageFormat::Jpeg, 64, 64);
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    let mut gif = halves_as(ImageFormat::Gif, 64, 64);
    gif[6..10].copy_from_slice(&[0xff; 4]);
    for bomb in [png, jpeg, gif] {
        let refused = try_render(&bomb, spec(96, 96, Method::Crop, false));
        assert!(
            matches!(refused, Err(MediaError::PictureTooLarge)),
            "{refused:?}"
        );
    }
}

#[test]
fn a_webp_whose_bitstream_is_larger_than_it_claims_is_refused() {
    let mut webp = moving_webp(2);
    let bitstream = webp.windows(4).position(|name| name == b"VP8L").unwrap();
    webp[bitstream + 9..bitstream + 13].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
    let refused = try_render(&webp, spec(96, 96, Method::Crop, false));
    assert!(
        matches!(refused, Err(MediaError::NotThumbnailable { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_decoding_would_hold_in_memory_is_limited() {
    let content = halves_as(ImageFormat::Png, 400, 400);
    let limits = Limits {
        max_decode_bytes: 400 * 400 * 3,
        ..Limits::default()
    };
    let refused = render(
        &mut Cursor::new(content),
        &spec(96, 96, Method::Crop, false),
        &limits,
    );
    assert!(matches!(refused, Err(MediaError::PictureTooLarge)));
}

#[test]
fn content_over_the_length_limit_is_refused_unread() {
    /// Long, and not to be read.
    struct Long;
    impl std::io::Read for Long {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("read");
        }
    }
    impl Seek for Long {
        fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
            Ok(1 << 40)
        }
    }
    let refused = render(
        &mut Long,
        &spec(96, 96, Method::Crop, false),
        &Limits::default(),
    );
    assert!(matches!(refused, Err(MediaError::PictureTooLarge)));
}

#[test]
fn a_rendering_past_its_deadline_is_given_up() {
    let limits = Limits {
        deadline: Some(Instant::now()),
        ..Limits::default()
    };
    let content = halves_as(ImageFormat::Png, 400, 400);
    let given_up = render(
        &mut Cursor::new(content),
        &spec(96, 96, Method::Crop, false),
        &limits,
    );
    assert!(matches!(given_up, Err(MediaError::OutOfTime)));
    let limits = Limits {
        deadline: Some(Instant::now() + Duration::from_secs(600)),
        ..limits
    };
    let content = halves_as(ImageFormat::Png, 400, 400);
    assert!(
        render(
            &mut Cursor::new(content),
            &spec(96, 96, Method::Crop, false),
            &limits
        )
        .is_ok()
    );
}

#[test]
fn what_is_no_picture_is_refused() {
    for content in [
        &b""[..],
        b"hello",
        b"<svg xmlns=''/>",
        b"%PDF-1.7",
        b"\xff\xd8\xff",
        b"GIF89a",
    ] {
        let refused = try_render(content, spec(96, 96, Method::Crop, false));
        assert!(
            matches!(refused, Err(MediaError::NotThumbnailable { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_failing_disk_is_not_taken_for_a_broken_picture() {
    struct Failing(Cursor<Vec<u8>>);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.position() > 0 {
                return Err(std::io::Error::from_raw_os_error(5));
            }
            let length = buffer.len().min(64);
            self.0.read(&mut buffer[..length])
        }
    }
    impl Seek for Failing {
        fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(position)
        }
    }
    let content = halves_as(ImageFormat::Jpeg, 400, 400);
    let mut source = Failing(Cursor::new(content));
    let failed = render(
        &mut source,
        &spec(96, 96, Method::Crop, false),
        &Limits::default(),
    );
    assert!(matches!(failed, Err(MediaError::Io(_))), "{failed:?}");
}

fn small_limits() -> Limits {
    Limits {
        max_pixels: 1_000_000,
        max_decode_bytes: 16 << 20,
        max_frames: 8,
        max_animation_pixels: 4_000_000,
        ..Limits::default()
    }
}

/// One valid picture of each format, small so that damage hits its structure.
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let small = DynamicImage::ImageRgb8(halves(40, 30));
    vec![
        encoded(&small, ImageFormat::Jpeg),
        jpeg_held(6),
        encoded(&small, ImageFormat::Png),
        encoded(&small, ImageFormat::Gif),
        encoded(&small, ImageFormat::WebP),
        moving_gif(3),
        moving_webp(3),
        moving_png(3),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_behind_a_real_beginning_never_panic(
        sample in 0_usize..8,
        keep in 0_usize..64,
        noise in prop::collection::vec(any::<u8>(), 0..400),
        animated: bool,
    ) {
        let mut content = SAMPLES[sample].clone();
        content.truncate(keep);
        content.extend_from_slice(&noise);
        let spec = spec(16, 16, Method::Crop, animated);
        let _ = render(&mut Cursor::new(content), &spec, &small_limits());
    }

    #[test]
    fn a_damaged_picture_never_panics(
        sample in 0_usize..8,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        animated: bool,
        crop: bool,
    ) {
        let mut content = SAMPLES[sample].clone();
        for (at, byte) in damage {
            let at = at.index(content.len());
            content[at] = byte;
        }
        // Half of the cases also end early.
        if animated == crop {
            content.truncate(cut.index(content.len()));
        }
        let method = if crop { Method::Crop } else { Method::Scale };
        if let Ok(Thumbnail::Rendered(rendered)) =
            render(&mut Cursor::new(content), &spec(16, 16, method, animated), &small_limits())
        {
            prop_assert!(rendered.width >= 1 && rendered.width <= 1000);
            prop_assert!(animated || !rendered.animated);
        }
    }
}
