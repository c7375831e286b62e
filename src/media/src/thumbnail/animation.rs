//! Writes moving pictures as WebP (RFC 9649): each frame losslessly, and of each frame only the
//! rectangle that changed.
//!
//! The image crate encodes single WebP pictures; the container around them is written here.

use image::ExtendedColorType;
use image::codecs::webp::WebPEncoder;

use super::geometry::Size;
use crate::MediaError;

/// A moving picture being written.
pub(super) struct AnimationWriter {
    size: Size,
    /// `ANMF` chunks of the frames before `pending`.
    chunks: Vec<u8>,
    /// The last frame; held back because an equal frame after it only lengthens it.
    pending: Option<PendingFrame>,
    /// The canvas as the last frame left it, RGBA.
    canvas: Vec<u8>,
    frames: u32,
    translucent: bool,
}

struct PendingFrame {
    at: Rectangle,
    bitstream: Vec<u8>,
    duration_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rectangle {
    x: u32,
    y: u32,
    size: Size,
}

/// The largest number that the container's fields of 24 bits hold.
const MAX_24_BITS: u32 = 0xff_ffff;

impl AnimationWriter {
    pub fn new(size: Size) -> Self {
        AnimationWriter {
            size,
            chunks: Vec::new(),
            pending: None,
            canvas: Vec::new(),
            frames: 0,
            translucent: false,
        }
    }

    /// Frames given so far, equal ones included.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Adds a frame: the whole canvas as RGBA, shown for `duration_ms`.
    pub fn push(&mut self, rgba: Vec<u8>, duration_ms: u32) -> Result<(), MediaError> {
        self.frames += 1;
        let changed = if self.canvas.is_empty() {
            Some(Rectangle {
                x: 0,
                y: 0,
                size: self.size,
            })
        } else {
            changed_rectangle(&self.canvas, &rgba, self.size)
        };
        match (changed, &mut self.pending) {
            (None, Some(pending)) => {
                pending.duration_ms = pending.duration_ms.saturating_add(duration_ms);
            }
            (None, None) => {}
            (Some(at), _) => {
                self.flush();
                let pixels = cut_out(&rgba, self.size, at);
                self.translucent |= pixels.chunks_exact(4).any(|pixel| pixel[3] != 255);
                let bitstream = encode_still(&pixels, at.size)?;
                self.pending = Some(PendingFrame {
                    at,
                    bitstream,
                    duration_ms,
                });
            }
        }
        self.canvas = rgba;
        Ok(())
    }

    /// The finished file. `loop_count` 0 means for ever.
    pub fn finish(mut self, loop_count: u16) -> Vec<u8> {
        self.flush();
        let mut body = Vec::with_capacity(self.chunks.len() + 64);
        body.extend_from_slice(b"WEBP");
        // VP8X, RFC 9649 section 2.7.1: flags, reserved, canvas size minus one
        let alpha_flag = if self.translucent { 0x10 } else { 0 };
        let mut extended = vec![0x02 | alpha_flag, 0, 0, 0];
        push_24_bits(&mut extended, self.size.width - 1);
        push_24_bits(&mut extended, self.size.height - 1);
        push_chunk(&mut body, b"VP8X", &extended);
        // ANIM: background (transparent black) and loop count
        let mut control = vec![0; 4];
        control.extend_from_slice(&loop_count.to_le_bytes());
        push_chunk(&mut body, b"ANIM", &control);
        body.extend_from_slice(&self.chunks);
        let mut file = Vec::with_capacity(body.len() + 8);
        push_chunk(&mut file, b"RIFF", &body);
        file
    }

    /// Length of the file if it were finished now, for giving up early.
    pub fn length_so_far(&self) -> usize {
        self.chunks.len()
            + self
                .pending
                .as_ref()
                .map_or(0, |pending| pending.bitstream.len())
    }

    fn flush(&mut self) {
        let Some(frame) = self.pending.take() else {
            return;
        };
        let mut payload = Vec::with_capacity(frame.bitstream.len() + 16);
        push_24_bits(&mut payload, frame.at.x / 2);
        push_24_bits(&mut payload, frame.at.y / 2);
        push_24_bits(&mut payload, frame.at.size.width - 1);
        push_24_bits(&mut payload, frame.at.size.height - 1);
        push_24_bits(&mut payload, frame.duration_ms.min(MAX_24_BITS));
        // Do not blend, do not dispose: the rectangle replaces what was there.
        payload.push(0x02);
        payload.extend_from_slice(&frame.bitstream);
        push_chunk(&mut self.chunks, b"ANMF", &payload);
    }
}

/// The smallest rectangle, at even coordinates as the container demands, outside of which two canvases
/// are equal; `None` when they are equal everywhere.
fn changed_rectangle(before: &[u8], after: &[u8], size: Size) -> Option<Rectangle> {
    let row_bytes = size.width as usize * 4;
    let (mut top, mut bottom) = (None, 0);
    let (mut left, mut right) = (row_bytes, 0);
    let rows = before
        .chunks_exact(row_bytes)
        .zip(after.chunks_exact(row_bytes));
    for (y, (row_before, row_after)) in rows.enumerate() {
        let differs = |(a, b): (&u8, &u8)| a != b;
        let Some(first) = row_before.iter().zip(row_after).position(differs) else {
            continue;
        };
        let last = row_before
            .iter()
            .zip(row_after)
            .rposition(differs)
            .unwrap_or(first);
        top.get_or_insert(y);
        bottom = y;
        left = left.min(first);
        right = right.max(last);
    }
    let (x, y) = ((left as u32 / 4) & !1, top? as u32 & !1);
    let size = Size {
        width: right as u32 / 4 + 1 - x,
        height: bottom as u32 + 1 - y,
    };
    Some(Rectangle { x, y, size })
}

fn cut_out(rgba: &[u8], size: Size, at: Rectangle) -> Vec<u8> {
    let row_bytes = size.width as usize * 4;
    let from = at.x as usize * 4;
    let to = from + at.size.width as usize * 4;
    let rows = rgba
        .chunks_exact(row_bytes)
        .skip(at.y as usize)
        .take(at.size.height as usize);
    let mut pixels = Vec::with_capacity((to - from) * at.size.height as usize);
    for row in rows {
        pixels.extend_from_slice(&row[from..to]);
    }
    pixels
}

/// One picture as a `VP8L` chunk.
fn encode_still(rgba: &[u8], size: Size) -> Result<Vec<u8>, MediaError> {
    let mut file = Vec::new();
    WebPEncoder::new_lossless(&mut file)
        .encode(rgba, size.width, size.height, ExtendedColorType::Rgba8)
        .map_err(|error| MediaError::NotThumbnailable {
            reason: error.to_string(),
        })?;
    // The encoder writes "RIFF", length, "WEBP" before the only chunk.
    Ok(file.split_off(12.min(file.len())))
}

fn push_24_bits(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes()[..3]);
}

/// A chunk: name, length, payload, and a zero byte when the length is odd.
fn push_chunk(bytes: &mut Vec<u8>, name: &[u8; 4], payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    if payload.len() % 2 == 1 {
        bytes.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::webp::WebPDecoder;
    use image::{AnimationDecoder, ImageDecoder};
    use proptest::prelude::*;
    use std::io::Cursor;

    fn decode(file: Vec<u8>) -> Vec<(Vec<u8>, u32)> {
        let decoder = WebPDecoder::new(Cursor::new(file)).unwrap();
        assert!(decoder.dimensions().0 > 0);
        let frames = decoder.into_frames().collect_frames().unwrap();
        let mut decoded = Vec::new();
        for frame in frames {
            let (numerator, denominator) = frame.delay().numer_denom_ms();
            decoded.push((frame.into_buffer().into_raw(), numerator / denominator));
        }
        decoded
    }

    #[test]
    fn an_unchanged_frame_lengthens_the_one_before() {
        let size = Size {
            width: 3,
            height: 2,
        };
        let mut writer = AnimationWriter::new(size);
        let red = [255, 0, 0, 255].repeat(6);
        let blue = [0, 0, 255, 255].repeat(6);
        writer.push(red.clone(), 100).unwrap();
        writer.push(red.clone(), 50).unwrap();
        writer.push(blue.clone(), 70).unwrap();
        assert_eq!(decode(writer.finish(0)), [(red, 150), (blue, 70)]);
    }

    proptest! {
        #[test]
        fn what_is_written_decodes_to_the_same_frames(
            (width, height, frames) in (1_u32..12, 1_u32..12).prop_flat_map(|(width, height)| {
                let pixels = (width * height) as usize;
                // Few colours, so that neighbouring frames share parts.
                let pixel = prop_oneof![Just([9, 9, 9, 255]), Just([200, 0, 0, 255]), Just([0, 0, 0, 0])];
                let frame = prop::collection::vec(pixel, pixels).prop_map(|pixels| pixels.concat());
                (Just(width), Just(height), prop::collection::vec(frame, 1..5))
            })
        ) {
            let mut writer = AnimationWriter::new(Size { width, height });
            let mut expected: Vec<Vec<u8>> = Vec::new();
            for frame in frames {
                writer.push(frame.clone(), 10).unwrap();
                if expected.last() != Some(&frame) {
                    expected.push(frame);
                }
            }
            let translucent = expected.iter().any(|frame| frame.chunks(4).any(|pixel| pixel[3] != 255));
            let decoded: Vec<Vec<u8>> = decode(writer.finish(0)).into_iter().map(|(rgba, _)| rgba).collect();
            prop_assert_eq!(decoded.len(), expected.len());
            for (decoded, expected) in decoded.iter().zip(&expected) {
                if translucent {
                    prop_assert_eq!(decoded, expected);
                } else {
                    let opaque = |rgba: &[u8]| rgba.chunks(4).map(|pixel| pixel[..3].to_vec()).collect::<Vec<_>>();
                    prop_assert_eq!(opaque(decoded), opaque(expected));
                }
            }
        }
    }
}
