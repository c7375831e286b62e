//! From the size of a picture and a request to the part that is kept and the size it is brought to.

use super::spec::LARGEST_SIDE;
use super::{Method, ThumbnailSpec};

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The size after a quarter turn.
    pub fn turned(self) -> Size {
        Size {
            width: self.height,
            height: self.width,
        }
    }
}

/// What is to be done with a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Give out the content as it is.
    Original,
    /// Keep the `part` in the middle and bring it to the size `target`, which is never larger.
    Resize { part: Size, target: Size },
}

/// Decides for a picture of size `source`, as it is seen (after the camera's rotation).
pub(super) fn plan(source: Size, spec: &ThumbnailSpec) -> Plan {
    let contained = source.width <= spec.width && source.height <= spec.height;
    if contained || spec.width > LARGEST_SIDE || spec.height > LARGEST_SIDE {
        return Plan::Original;
    }
    let box_size = Size {
        width: spec.width,
        height: spec.height,
    };
    match spec.method {
        Method::Scale => Plan::Resize {
            part: source,
            target: largest_within(box_size, source),
        },
        Method::Crop => {
            let part = largest_within(source, box_size);
            let target = Size {
                width: part.width.min(spec.width),
                height: part.height.min(spec.height),
            };
            Plan::Resize { part, target }
        }
    }
}

/// The largest size within `outer` that has the aspect ratio of `shape`, at least one pixel each way.
fn largest_within(outer: Size, shape: Size) -> Size {
    let outer_is_wider = u64::from(outer.width) * u64::from(shape.height)
        > u64::from(outer.height) * u64::from(shape.width);
    if outer_is_wider {
        let width = proportional(outer.height, shape.width, shape.height);
        Size {
            width: width.clamp(1, outer.width),
            height: outer.height,
        }
    } else {
        let height = proportional(outer.width, shape.height, shape.width);
        Size {
            width: outer.width,
            height: height.clamp(1, outer.height),
        }
    }
}

/// `value * numerator / denominator`, rounded to the nearest. The result is at most the outer side that
/// the caller clamps to, so it fits.
fn proportional(value: u32, numerator: u32, denominator: u32) -> u32 {
    let denominator = u64::from(denominator.max(1));
    let product = u64::from(value) * u64::from(numerator);
    u32::try_from((product + denominator / 2) / denominator).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    fn plan_for(source: Size, width: u32, height: u32, method: Method) -> Plan {
        plan(
            source,
            &ThumbnailSpec {
                width,
                height,
                method,
                animated: false,
            },
        )
    }

    #[test]
    fn scale_keeps_the_aspect_ratio_and_touches_one_side() {
        let target = |source| match plan_for(source, 320, 240, Method::Scale) {
            Plan::Resize { target, part } if part == source => target,
            other => panic!("{other:?}"),
        };
        assert_eq!(target(size(4000, 3000)), size(320, 240));
        assert_eq!(target(size(4000, 1000)), size(320, 80));
        assert_eq!(target(size(1000, 4000)), size(60, 240));
        assert_eq!(target(size(65535, 1)), size(320, 1));
    }

    #[test]
    fn crop_takes_the_aspect_ratio_of_the_request() {
        assert_eq!(
            plan_for(size(4000, 1000), 96, 96, Method::Crop),
            Plan::Resize {
                part: size(1000, 1000),
                target: size(96, 96)
            }
        );
        assert_eq!(
            plan_for(size(1000, 1000), 100, 50, Method::Crop),
            Plan::Resize {
                part: size(1000, 500),
                target: size(100, 50)
            }
        );
    }

    #[test]
    fn crop_of_a_picture_narrower_than_the_request_is_cut_but_not_enlarged() {
        assert_eq!(
            plan_for(size(50, 200), 96, 96, Method::Crop),
            Plan::Resize {
                part: size(50, 50),
                target: size(50, 50)
            }
        );
    }

    #[test]
    fn a_picture_within_the_request_stays_as_it_is() {
        assert_eq!(
            plan_for(size(320, 240), 320, 240, Method::Scale),
            Plan::Original
        );
        assert_eq!(plan_for(size(10, 90), 96, 96, Method::Crop), Plan::Original);
    }

    #[test]
    fn a_request_above_the_largest_rendering_gets_the_original() {
        assert_eq!(
            plan_for(size(9000, 9000), 1601, 10, Method::Crop),
            Plan::Original
        );
    }

    proptest! {
        #[test]
        fn nothing_is_ever_enlarged_or_empty(
            source_width in 1_u32.., source_height in 1_u32..,
            width in 1_u32..3000, height in 1_u32..3000, crop: bool,
        ) {
            let method = if crop { Method::Crop } else { Method::Scale };
            let source = size(source_width, source_height);
            if let Plan::Resize { part, target } = plan_for(source, width, height, method) {
                prop_assert!(part.width <= source.width && part.height <= source.height);
                prop_assert!(target.width <= part.width && target.height <= part.height);
                prop_assert!(target.width <= width && target.height <= height);
                prop_assert!(target.width >= 1 && target.height >= 1);
                // One side is as large as the request or the picture allows.
                prop_assert!(
                    target.width == width || target.height == height
                        || target.width == source.width || target.height == source.height
                );
            }
        }
    }
}
