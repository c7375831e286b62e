//! Looks into the headers of JPEG and WebP for what the decoders do not say before they allocate.
//!
//! Both walks read headers only and skip the data between; they stop quietly at anything they do not
//! understand, because the decoder will refuse it.

use std::io::{self, BufRead, Read, Seek};

use super::geometry::Size;

/// Whether a JPEG is progressive: its coefficients are all held in memory while it is decoded.
pub(super) fn jpeg_is_progressive<R: BufRead + Seek>(reader: &mut R) -> io::Result<bool> {
    let mut start = [0; 2];
    reader.read_exact(&mut start)?;
    loop {
        // Segments may be preceded by any number of fill bytes 0xff.
        let mut marker = read_byte(reader)?;
        while marker == 0xff {
            marker = read_byte(reader)?;
        }
        match marker {
            0xc2 | 0xc6 | 0xca | 0xce => return Ok(true),
            // any other frame header, or the data itself
            0xc0 | 0xc1 | 0xc3 | 0xda => return Ok(false),
            // markers without a segment
            0x01 | 0xd0..=0xd9 => {}
            _ => {
                let length = u16::from_be_bytes([read_byte(reader)?, read_byte(reader)?]);
                reader.seek_relative(i64::from(length.saturating_sub(2)))?;
            }
        }
    }
}

/// The largest frame that the bitstreams inside a WebP file claim, which may differ from the size in
/// the file's own header. `None` when no bitstream was found.
pub(super) fn webp_largest_frame<R: BufRead + Seek>(reader: &mut R) -> io::Result<Option<Size>> {
    reader.seek_relative(12)?;
    let mut largest: Option<Size> = None;
    loop {
        let Some((name, length)) = read_chunk_header(reader)? else {
            return Ok(largest);
        };
        // A moving picture's frame: 16 bytes of its own header, then chunks as at the top.
        if &name == b"ANMF" {
            reader.seek_relative(16)?;
            continue;
        }
        let mut head = [0; 10];
        let taken = if matches!(&name, b"VP8 " | b"VP8L") && length >= 10 {
            reader.read_exact(&mut head)?;
            10
        } else {
            0
        };
        let frame = match &name {
            b"VP8 " => Some(Size {
                width: u32::from(u16::from_le_bytes([head[6], head[7]]) & 0x3fff),
                height: u32::from(u16::from_le_bytes([head[8], head[9]]) & 0x3fff),
            }),
            b"VP8L" => {
                let bits = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
                Some(Size {
                    width: (bits & 0x3fff) + 1,
                    height: (bits >> 14 & 0x3fff) + 1,
                })
            }
            _ => None,
        };
        if let Some(frame) = frame {
            largest = Some(match largest {
                Some(size) if size.pixels() >= frame.pixels() => size,
                _ => frame,
            });
        }
        // Chunks are padded to an even length.
        let padded = i64::from(length) + i64::from(length & 1);
        reader.seek_relative(padded - taken)?;
    }
}

fn read_byte<R: Read>(reader: &mut R) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Name and length of the next chunk; `None` at the end of the file.
fn read_chunk_header<R: Read>(reader: &mut R) -> io::Result<Option<([u8; 4], u32)>> {
    let mut header = [0; 8];
    match reader.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [a, b, c, d, length @ ..] = header;
    Ok(Some(([a, b, c, d], u32::from_le_bytes(length))))
}
