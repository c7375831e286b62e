//! What a thumbnail request asks for, the sizes that answer it, and the limits of a rendering.

use std::time::Instant;

use crate::MediaError;

/// How a picture is made to fit (content repository, "Thumbnails").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Keeps the aspect ratio: the result lies within the size and touches it in one dimension.
    Scale,
    /// Takes the size's aspect ratio: what stands over is cut off evenly at both sides.
    Crop,
}

/// A thumbnail's size, method, and whether it may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThumbnailSpec {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How the picture is made to fit.
    pub method: Method,
    /// Whether a moving picture should go on moving.
    pub animated: bool,
}

/// The specification's sizes for `scale`, and two above them for large screens.
const SCALE_SIZES: [(u32, u32); 5] = [
    (320, 240),
    (640, 480),
    (800, 600),
    (1280, 960),
    (1600, 1200),
];

/// The specification's sizes for `crop`, and steps above them for larger avatars.
const CROP_SIDES: [u32; 9] = [32, 96, 128, 192, 256, 320, 480, 640, 800];

/// Larger requests are answered with the original content.
pub(super) const LARGEST_SIDE: u32 = 1600;

impl ThumbnailSpec {
    /// The smallest rendering that is not smaller than the request. A size above all of them is kept as
    /// it is, and answered with the original content. An oblong `crop` keeps its size too, because its
    /// aspect ratio has to match.
    ///
    /// # Errors
    /// [`MediaError::NotThumbnailable`] for a size of zero, which the specification answers with 400.
    pub fn for_request(
        width: u32,
        height: u32,
        method: Method,
        animated: bool,
    ) -> Result<Self, MediaError> {
        if width == 0 || height == 0 {
            return Err(MediaError::NotThumbnailable {
                reason: "a size of zero".to_owned(),
            });
        }
        let fits =
            |&(step_width, step_height): &(u32, u32)| step_width >= width && step_height >= height;
        let step = match method {
            Method::Scale => SCALE_SIZES.into_iter().find(fits),
            Method::Crop if width == height => {
                CROP_SIDES.into_iter().map(|side| (side, side)).find(fits)
            }
            Method::Crop => None,
        };
        let (width, height) = step.unwrap_or((width, height));
        Ok(ThumbnailSpec {
            width,
            height,
            method,
            animated,
        })
    }
}

/// What one rendering may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Length of the content; a JPEG is held in memory while it is decoded.
    pub max_input_bytes: u64,
    /// Pixels of the picture, from its header.
    pub max_pixels: u64,
    /// Memory for decoded pixels, computed from the header before decoding.
    pub max_decode_bytes: u64,
    /// Frames of a moving picture; with more, its first frame is rendered as a still.
    pub max_frames: u32,
    /// Pixels of all frames of a moving picture together; with more, as above.
    pub max_animation_pixels: u64,
    /// When to give up. Looked at whenever bytes are read and between frames.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    /// Limits that take a photograph of 50 million pixels and a second of one core.
    fn default() -> Self {
        Limits {
            max_input_bytes: 64 << 20,
            max_pixels: 64_000_000,
            max_decode_bytes: 320 << 20,
            max_frames: 500,
            max_animation_pixels: 200_000_000,
            deadline: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(width: u32, height: u32, method: Method) -> (u32, u32) {
        let spec = ThumbnailSpec::for_request(width, height, method, false).unwrap();
        (spec.width, spec.height)
    }

    #[test]
    fn the_specifications_sizes_answer_themselves() {
        for (width, height) in [(320, 240), (640, 480), (800, 600)] {
            assert_eq!(chosen(width, height, Method::Scale), (width, height));
        }
        for side in [32, 96] {
            assert_eq!(chosen(side, side, Method::Crop), (side, side));
        }
    }

    #[test]
    fn a_size_between_two_steps_takes_the_larger() {
        assert_eq!(chosen(1, 1, Method::Scale), (320, 240));
        assert_eq!(chosen(320, 241, Method::Scale), (640, 480));
        assert_eq!(chosen(33, 33, Method::Crop), (96, 96));
        assert_eq!(chosen(97, 97, Method::Crop), (128, 128));
    }

    #[test]
    fn an_oblong_crop_keeps_its_aspect_ratio() {
        assert_eq!(chosen(50, 20, Method::Crop), (50, 20));
    }

    #[test]
    fn a_size_of_zero_is_refused() {
        for (width, height) in [(0, 10), (10, 0)] {
            let refused = ThumbnailSpec::for_request(width, height, Method::Scale, false);
            assert!(matches!(refused, Err(MediaError::NotThumbnailable { .. })));
        }
    }

    proptest! {
        #[test]
        fn a_rendering_is_never_smaller_than_the_request(width in 1_u32.., height in 1_u32.., crop: bool) {
            let method = if crop { Method::Crop } else { Method::Scale };
            let (chosen_width, chosen_height) = chosen(width, height, method);
            prop_assert!(chosen_width >= width && chosen_height >= height);
        }
    }
}
