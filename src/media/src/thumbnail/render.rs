//! Renders one thumbnail.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, Frame, RgbImage, RgbaImage};

use super::animation::AnimationWriter;
use super::decode::{self, Picture};
use super::encode::encode;
use super::geometry::{Plan, Size, plan};
use super::{Limits, Rendered, Thumbnail, ThumbnailSpec};
use crate::MediaError;

/// Renders a thumbnail of the content in `source`.
///
/// Runs on one thread for as long as it takes; give it a blocking thread and a deadline.
///
/// # Errors
/// [`MediaError::NotThumbnailable`] when the content is no picture or a broken one,
/// [`MediaError::PictureTooLarge`] and [`MediaError::OutOfTime`] when it exceeds the limits,
/// [`MediaError::Io`] when `source` fails.
pub fn render<R: Read + Seek>(
    source: &mut R,
    spec: &ThumbnailSpec,
    limits: &Limits,
) -> Result<Thumbnail, MediaError> {
    let watched = Watched {
        inner: source,
        deadline: limits.deadline,
    };
    let mut reader = BufReader::with_capacity(64 << 10, watched);
    // Nothing is shared with the closure that a panic could leave half changed.
    let rendered = catch_unwind(AssertUnwindSafe(|| {
        render_picture(&mut reader, spec, limits)
    }));
    match rendered {
        Ok(Err(_)) if has_passed(limits.deadline) => Err(MediaError::OutOfTime),
        Ok(result) => result,
        Err(_) => Err(MediaError::NotThumbnailable {
            reason: "the decoder panicked".to_owned(),
        }),
    }
}

type Reader<'a, R> = BufReader<Watched<&'a mut R>>;

fn render_picture<R: Read + Seek>(
    reader: &mut Reader<'_, R>,
    spec: &ThumbnailSpec,
    limits: &Limits,
) -> Result<Thumbnail, MediaError> {
    let length = reader.seek(SeekFrom::End(0))?;
    if length > limits.max_input_bytes {
        return Err(MediaError::PictureTooLarge);
    }
    let picture = decode::inspect(reader, limits)?;
    let original = Thumbnail::Original {
        content_type: picture.format.content_type(),
    };
    let (part, target) = match plan(picture.seen_size(), spec) {
        Plan::Original if spec.animated || !is_animated(reader, &picture, limits)? => {
            return Ok(original);
        }
        // A still was asked for, and the content moves: its first frame in full size.
        Plan::Original => (picture.seen_size(), picture.seen_size()),
        Plan::Resize { part, target } => (part, target),
    };
    let mut resize = Resize::new(&picture, part, target);
    if spec.animated && picture.maybe_animated {
        match render_animation(reader, &picture, &mut resize, length, limits)? {
            Animation::Rendered(rendered) => return Ok(Thumbnail::Rendered(rendered)),
            Animation::LargerThanOriginal => return Ok(original),
            Animation::Unsuitable => {}
        }
    }
    let image = decode::still(reader, &picture, limits)?;
    let mut image = resize.image(image)?;
    image.apply_orientation(picture.orientation);
    let rendered = encode(image, picture.format, picture.colour_profile)?;
    Ok(Thumbnail::Rendered(rendered))
}

/// Whether the content really has two frames.
fn is_animated<R: Read + Seek>(
    reader: &mut Reader<'_, R>,
    picture: &Picture,
    limits: &Limits,
) -> Result<bool, MediaError> {
    if !picture.maybe_animated {
        return Ok(false);
    }
    let (frames, _) = decode::frames(reader, picture, limits)?;
    Ok(frames.take(2).filter(Result::is_ok).count() == 2)
}

/// How the rendering of a moving picture ended.
enum Animation {
    Rendered(Rendered),
    /// The smaller picture has more bytes than the content, which then is the better answer.
    LargerThanOriginal,
    /// It has one frame only, or too many for the limits.
    Unsuitable,
}

fn render_animation<R: Read + Seek>(
    reader: &mut Reader<'_, R>,
    picture: &Picture,
    resize: &mut Resize,
    length: u64,
    limits: &Limits,
) -> Result<Animation, MediaError> {
    let (frames, loop_count) = decode::frames(reader, picture, limits)?;
    let size = resize.seen_target();
    let mut writer = AnimationWriter::new(size);
    let mut pixels = 0_u64;
    for frame in frames {
        // What was read before the end of a truncated file still moves.
        let Ok(frame) = frame else { break };
        pixels = pixels.saturating_add(picture.size.pixels());
        if writer.frames() == limits.max_frames || pixels > limits.max_animation_pixels {
            return Ok(Animation::Unsuitable);
        }
        if has_passed(limits.deadline) {
            return Err(MediaError::OutOfTime);
        }
        let duration_ms = duration_ms(&frame);
        let mut image = resize.image(DynamicImage::ImageRgba8(frame.into_buffer()))?;
        image.apply_orientation(picture.orientation);
        writer.push(image.into_rgba8().into_raw(), duration_ms)?;
        if writer.length_so_far() as u64 >= length {
            return Ok(Animation::LargerThanOriginal);
        }
    }
    if has_passed(limits.deadline) {
        return Err(MediaError::OutOfTime);
    }
    if writer.frames() < 2 {
        return Ok(Animation::Unsuitable);
    }
    Ok(Animation::Rendered(Rendered {
        bytes: writer.finish(loop_count),
        content_type: "image/webp",
        width: size.width,
        height: size.height,
        animated: true,
    }))
}

fn duration_ms(frame: &Frame) -> u32 {
    let (numerator, denominator) = frame.delay().numer_denom_ms();
    numerator / denominator.max(1)
}

/// Cuts the middle out of pictures and brings it to a size, with buffers that serve all frames.
struct Resize {
    /// Both as stored, before the rotation: the middle is the middle either way round.
    part: Size,
    target: Size,
    turned: bool,
    resizer: Resizer,
}

impl Resize {
    /// `part` and `target` are sizes as seen.
    fn new(picture: &Picture, part: Size, target: Size) -> Self {
        let turned = picture.is_turned();
        let stored = |size: Size| if turned { size.turned() } else { size };
        Resize {
            part: stored(part),
            target: stored(target),
            turned,
            resizer: Resizer::new(),
        }
    }

    fn seen_target(&self) -> Size {
        if self.turned {
            self.target.turned()
        } else {
            self.target
        }
    }

    /// The resized picture, with eight bits for each colour.
    fn image(&mut self, image: DynamicImage) -> Result<DynamicImage, MediaError> {
        let source = Size {
            width: image.width(),
            height: image.height(),
        };
        let translucent = image.color().has_alpha();
        let (pixels, pixel_type) = if translucent {
            (image.into_rgba8().into_raw(), PixelType::U8x4)
        } else {
            (image.into_rgb8().into_raw(), PixelType::U8x3)
        };
        let pixels = if source == self.target {
            pixels
        } else {
            self.resample(&pixels, source, pixel_type)?
        };
        let Size { width, height } = self.target;
        let resized = if translucent {
            RgbaImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgba8)
        } else {
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
        };
        resized.ok_or_else(inconsistent)
    }

    fn resample(
        &mut self,
        pixels: &[u8],
        source: Size,
        pixel_type: PixelType,
    ) -> Result<Vec<u8>, MediaError> {
        let view = ImageRef::new(source.width, source.height, pixels, pixel_type)
            .map_err(|_| inconsistent())?;
        let mut resized = Image::new(self.target.width, self.target.height, pixel_type);
        let left = source.width.saturating_sub(self.part.width) / 2;
        let top = source.height.saturating_sub(self.part.height) / 2;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
            .crop(
                f64::from(left),
                f64::from(top),
                f64::from(self.part.width),
                f64::from(self.part.height),
            );
        self.resizer
            .resize(&view, &mut resized, &options)
            .map_err(|_| inconsistent())?;
        Ok(resized.into_vec())
    }
}

/// A decoder gave other pixels than the header promised.
fn inconsistent() -> MediaError {
    MediaError::NotThumbnailable {
        reason: "the picture contradicts its header".to_owned(),
    }
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// A reader that fails once the deadline has passed.
struct Watched<R> {
    inner: R,
    deadline: Option<Instant>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if has_passed(self.deadline) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        self.inner.read(buffer)
    }
}

impl<R: Seek> Seek for Watched<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
