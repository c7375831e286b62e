//! Compression of responses, for clients that ask for it.
//!
//! zstd, gzip and brotli at their fast levels: most of the gain for little time. Left alone: small bodies, partial
//! ones, what is encoded already, and every type that is not text or JSON (pictures, films, encrypted
//! files). A body that is there in whole is compressed in one go and keeps a `Content-Length`; a large one
//! off the threads that serve connections; one that streams is compressed as it comes. Without `Accept-Encoding` the cost is one look at the headers.

use std::cell::RefCell;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

use super::body::Content;

/// Smaller bodies fit into a packet or two as they are.
const SMALLEST: u64 = 1024;

/// Larger bodies are compressed on the pool for blocking work.
const LARGEST_INLINE: usize = 256 * 1024;

/// How much a streaming encoder gathers before it passes a piece on.
const PIECE: usize = 16 * 1024;

const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: Compression = Compression::new(1);
const BROTLI_QUALITY: i32 = 2;
const BROTLI_WINDOW: i32 = 20;
const BROTLI_BUFFER: usize = 4096;

/// A content coding we can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Gzip,
    Brotli,
}

impl Coding {
    /// In the order we like best where the client likes them equally: by speed.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Brotli];

    const fn token(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }
}

/// The coding to use by `Accept-Encoding` (RFC 9110, section 12.5.3), or none.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Coding> {
    let mut wanted: [Option<u16>; 3] = [None; 3];
    let mut any_other = None;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for element in value.to_str().ok()?.split(',') {
            let (token, parameters) = element.split_once(';').unwrap_or((element, ""));
            let (token, quality) = (token.trim(), quality(parameters));
            if token == "*" {
                any_other = Some(quality);
                continue;
            }
            for (slot, coding) in wanted.iter_mut().zip(Coding::ALL) {
                if token.eq_ignore_ascii_case(coding.token()) {
                    *slot = Some(quality);
                }
            }
        }
    }
    let mut best = None;
    let mut best_quality = 0;
    for (quality, coding) in wanted.into_iter().zip(Coding::ALL) {
        let quality = quality.or(any_other).unwrap_or(0);
        if quality > best_quality {
            (best, best_quality) = (Some(coding), quality);
        }
    }
    best
}

/// `q=0.5` in thousandths; 1000 when there is none.
fn quality(parameters: &str) -> u16 {
    let Some(value) = parameters.trim().strip_prefix("q=") else {
        return 1000;
    };
    match value.trim().parse::<f32>() {
        // In range, so the cast keeps the value.
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0) as u16,
        _ => 0,
    }
}

/// The response with its body compressed, or as it was.
pub(super) async fn apply(
    coding: Option<Coding>,
    mut response: Response,
) -> http::Response<Content> {
    let Some(coding) = coding else {
        return response.map(Content::Plain);
    };
    if !is_worthwhile(&response) {
        return response.map(Content::Plain);
    }
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let size = response.body().size_hint();
    let (mut parts, mut body) = response.into_parts();

    // A body of known size is nearly always one piece that is there already.
    let first = match size.exact() {
        Some(_) => match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            // Hyper meets the same end when it reads on, and cuts the connection.
            Some(Err(_)) | None => Bytes::new(),
        },
        None => Bytes::new(),
    };
    let is_whole = size.exact() == Some(first.len() as u64);
    let content = if is_whole {
        match whole(coding, first.clone()).await {
            Ok(compressed) if compressed.len() < first.len() => {
                Content::Plain(Body::from(compressed))
            }
            Ok(_) => return http::Response::from_parts(parts, Content::Plain(Body::from(first))),
            Err(error) => {
                tracing::error!(%error, "cannot compress a response");
                return http::Response::from_parts(parts, Content::Plain(Body::from(first)));
            }
        }
    } else {
        Content::Compressed(Box::new(CompressedBody::new(coding, first, body)))
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::ACCEPT_RANGES);
    parts.headers.insert(
        header::CONTENT_ENCODING,
        HeaderValue::from_static(coding.token()),
    );
    http::Response::from_parts(parts, content)
}

fn is_worthwhile(response: &Response) -> bool {
    const TAKEN: [HeaderName; 3] = [
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::ETAG,
    ];
    let status = response.status();
    if status == StatusCode::PARTIAL_CONTENT
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return false;
    }
    if response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size < SMALLEST)
    {
        return false;
    }
    let headers = response.headers();
    let is_text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json") || kind.starts_with("text/"));
    is_text && !TAKEN.iter().any(|name| headers.contains_key(name))
}

async fn whole(coding: Coding, content: Bytes) -> io::Result<Vec<u8>> {
    if content.len() <= LARGEST_INLINE {
        return at_once(coding, &content);
    }
    match tokio::task::spawn_blocking(move || at_once(coding, &content)).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

thread_local! {
    // Setting up an encoder costs more than a small body does, so each thread keeps one of a kind.
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static GZIP: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

fn at_once(coding: Coding, content: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Zstd => ZSTD.with_borrow_mut(|kept| {
            let encoder = match kept {
                Some(encoder) => encoder,
                None => kept.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            };
            encoder.compress(content)
        }),
        Coding::Gzip => GZIP.with_borrow_mut(|kept| {
            let encoder = kept.get_or_insert_with(|| Compress::new_gzip(GZIP_LEVEL, 15));
            encoder.reset();
            let mut output = Vec::with_capacity(content.len() / 3 + 256);
            loop {
                let consumed = usize::try_from(encoder.total_in()).unwrap_or(usize::MAX);
                let rest = content.get(consumed..).unwrap_or_default();
                let status = encoder.compress_vec(rest, &mut output, FlushCompress::Finish)?;
                if status == Status::StreamEnd {
                    return Ok(output);
                }
                output.reserve(output.capacity().max(PIECE));
            }
        }),
        Coding::Brotli => {
            let mut encoder = Encoder::new(Coding::Brotli)?;
            encoder.write_all(content)?;
            encoder.finish()
        }
    }
}

/// A streaming encoder that writes into memory.
enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), GZIP_LEVEL)),
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::with_params(
                Vec::new(),
                BROTLI_BUFFER,
                &brotli::enc::BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: BROTLI_WINDOW,
                    ..Default::default()
                },
            ))),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
        }
    }
}

/// A body that is compressed as it streams. When its source pauses, what there is goes out.
pub(super) struct CompressedBody {
    coding: Coding,
    /// Made at the first poll, taken at the end.
    encoder: Option<Encoder>,
    first: Bytes,
    source: Option<Body>,
    unflushed: bool,
}

impl CompressedBody {
    fn new(coding: Coding, first: Bytes, source: Body) -> Self {
        Self {
            coding,
            encoder: None,
            first,
            source: Some(source),
            unflushed: false,
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, axum::BoxError>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(Encoder::new(self.coding)?),
        };
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            encoder.write_all(&first)?;
            self.unflushed = true;
        }
        while encoder.output().len() < PIECE {
            match Pin::new(&mut *source).poll_frame(context) {
                Poll::Ready(Some(frame)) => {
                    // Trailers are not passed on: no endpoint of ours sends any.
                    let Ok(data) = frame?.into_data() else {
                        continue;
                    };
                    encoder.write_all(&data)?;
                    self.unflushed = true;
                }
                Poll::Ready(None) => {
                    self.source = None;
                    let rest = match self.encoder.take() {
                        Some(encoder) => encoder.finish()?,
                        None => Vec::new(),
                    };
                    return Poll::Ready(Ok(Bytes::from(rest)));
                }
                Poll::Pending if self.unflushed => {
                    encoder.flush()?;
                    self.unflushed = false;
                    if !encoder.output().is_empty() {
                        break;
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(Bytes::from(std::mem::take(encoder.output()))))
    }
}

impl http_body::Body for CompressedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match ready!(self.get_mut().poll_piece(context)) {
            Ok(piece) if piece.is_empty() => Poll::Ready(None),
            Ok(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn accepting(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        headers
    }

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let result = match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .expect("a decoder")
                .read_to_end(&mut decoded),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded),
        };
        result.expect("what was compressed can be read");
        decoded
    }

    fn text(length: usize) -> Vec<u8> {
        // Events are repetitive but not constant.
        (0..)
            .flat_map(|n: u32| format!("{{\"n\":{}}},", n.wrapping_mul(2_654_435_761)).into_bytes())
            .take(length)
            .collect()
    }

    #[test]
    fn the_client_chooses_the_coding_and_we_choose_among_equals() {
        assert_eq!(negotiate(&HeaderMap::new()), None);
        assert_eq!(
            negotiate(&accepting("gzip, deflate, br, zstd")),
            Some(Coding::Zstd)
        );
        assert_eq!(
            negotiate(&accepting("gzip;q=0.5, br;q=0.8")),
            Some(Coding::Brotli)
        );
        assert_eq!(negotiate(&accepting("GZIP")), Some(Coding::Gzip));
        assert_eq!(
            negotiate(&accepting("*;q=0.1, zstd;q=0")),
            Some(Coding::Gzip)
        );
        assert_eq!(negotiate(&accepting("identity, deflate")), None);
        assert_eq!(negotiate(&accepting("gzip;q=0")), None);
        assert_eq!(negotiate(&accepting("gzip;q=lots")), None);
    }

    #[tokio::test]
    async fn a_whole_body_comes_back_as_it_was_in_every_coding_and_size() {
        for coding in Coding::ALL {
            for length in [SMALLEST as usize, 20_000, LARGEST_INLINE + 1, 3_000_000] {
                let original = text(length);
                let response = Response::builder()
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Body::from(original.clone()))
                    .expect("a response");
                let response = apply(Some(coding), response).await;
                assert_eq!(response.headers()[header::CONTENT_ENCODING], coding.token());
                let Content::Plain(body) = response.into_body() else {
                    panic!("a body that is there in whole is compressed in one go");
                };
                let compressed = body.collect().await.expect("a body").to_bytes();
                assert!(compressed.len() < length);
                assert!(
                    decode(coding, &compressed) == original,
                    "{coding:?} {length}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_streaming_body_is_passed_on_when_its_source_pauses_and_ends_whole() {
        for coding in Coding::ALL {
            let (mut sender, source) = http_body_util::channel::Channel::<Bytes>::new(1);
            let response = Response::builder()
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::new(source))
                .expect("a response");
            let Content::Compressed(mut body) = apply(Some(coding), response).await.into_body()
            else {
                panic!("a body of unknown size streams");
            };
            sender
                .send_data(Bytes::from_static(b"[1,"))
                .await
                .expect("open");
            let mut compressed = Vec::new();
            let frame = body.frame().await.expect("a frame before the source ends");
            compressed.extend(frame.expect("no error").into_data().expect("data"));
            sender
                .send_data(Bytes::from_static(b"2]"))
                .await
                .expect("open");
            drop(sender);
            compressed.extend(body.collect().await.expect("the rest").to_bytes());
            assert_eq!(decode(coding, &compressed), b"[1,2]");
        }
    }

    #[tokio::test]
    async fn small_binary_and_encoded_bodies_are_left_alone() {
        let cases = [
            ("application/json", None, 100),
            ("image/png", None, 100_000),
            ("application/octet-stream", None, 100_000),
            ("application/json", Some("gzip"), 100_000),
        ];
        for (kind, encoding, length) in cases {
            let mut response = Response::new(Body::from(vec![b' '; length]));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Some(encoding) = encoding {
                let value = HeaderValue::from_static(encoding);
                response
                    .headers_mut()
                    .insert(header::CONTENT_ENCODING, value);
            }
            let response = apply(Some(Coding::Gzip), response).await;
            let Content::Plain(body) = response.into_body() else {
                panic!("left alone")
            };
            assert_eq!(body.size_hint().exact(), Some(length as u64), "{kind}");
        }
    }
}
