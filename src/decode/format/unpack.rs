//! Compressed payloads. The unpacked size is limited, so that a small payload does not take all memory.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

use crate::config::PayloadCompression;
use crate::core::reason::{Code, Reason};
use crate::decode::format::bytes::invalid_at;
use crate::decode::format::wire;
use crate::decode::value_reader::Result;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The payload as it was before it was compressed: at most `max` bytes.
pub fn unpack(payload: &[u8], compression: PayloadCompression, max: usize) -> Result<Cow<'_, [u8]>> {
    let compression = match compression {
        PayloadCompression::Auto => by_first_bytes(payload),
        given => given,
    };
    match compression {
        PayloadCompression::None | PayloadCompression::Auto => Ok(Cow::Borrowed(payload)),
        PayloadCompression::Gzip => {
            let mut decoder = MultiGzDecoder::new(payload);
            let unpacked = read(&mut decoder, max);
            finish(unpacked, "gzip", max, payload.len() - decoder.get_ref().len())
        }
        PayloadCompression::Zlib => {
            let mut decoder = ZlibDecoder::new(payload);
            let unpacked = read(&mut decoder, max);
            finish(unpacked, "zlib", max, payload.len() - decoder.get_ref().len())
        }
        PayloadCompression::Zstd => match zstd::stream::read::Decoder::with_buffer(payload) {
            Ok(mut decoder) => {
                let unpacked = read(&mut decoder, max);
                finish(unpacked, "zstd", max, payload.len() - decoder.get_ref().len())
            }
            Err(error) => Err(invalid_at("zstd", &error.to_string(), 0)),
        },
    }
}

fn by_first_bytes(payload: &[u8]) -> PayloadCompression {
    if payload.starts_with(GZIP) {
        return PayloadCompression::Gzip;
    }
    if payload.starts_with(ZSTD) {
        return PayloadCompression::Zstd;
    }
    // RFC 1950, 2.2: deflate with a window of up to 32 KiB, and a check of both bytes.
    match payload {
        [method, flags, ..]
            if method & 0x0f == 8
                && method >> 4 <= 7
                && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31) =>
        {
            PayloadCompression::Zlib
        }
        _ => PayloadCompression::None,
    }
}

/// At most one byte more than `max`.
fn read(decoder: impl Read, max: usize) -> std::io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder.take(max as u64 + 1).read_to_end(&mut unpacked).map(|_| unpacked)
}

/// The unpacked payload, of which `at` bytes were read.
fn finish(
    unpacked: std::io::Result<Vec<u8>>,
    name: &str,
    max: usize,
    at: usize,
) -> Result<Cow<'static, [u8]>> {
    match unpacked {
        Ok(unpacked) if unpacked.len() > max => {
            let message = format!("it unpacks to more than maxPayloadBytes, {max}, at byte {at}");
            Err(Box::new(Reason::new(Code::PayloadTooLarge, message)))
        }
        Ok(unpacked) => Ok(Cow::Owned(unpacked)),
        Err(error) => Err(invalid_at(name, &error.to_string(), at)),
    }
}

/// The probable format of a payload that is not JSON, and the option that reads it.
pub fn advice(payload: &[u8]) -> Option<&'static str> {
    if payload.starts_with(GZIP) {
        return Some("it begins as gzip does: set compression: 'gzip'");
    }
    if payload.starts_with(ZSTD) {
        return Some("it begins as zstd does: set compression: 'zstd'");
    }
    if payload.starts_with(&[0xff, 0xfe]) || payload.starts_with(&[0xfe, 0xff]) || payload.get(1) == Some(&0)
    {
        return Some("it seems to be UTF-16: JSON is UTF-8");
    }
    match payload.first()? {
        // A map or list of few items.
        0x80..=0x9f | 0xdc..=0xdf => Some("it begins as MessagePack does: set format: 'msgpack'"),
        0xa0..=0xbf => Some("it begins as CBOR does: set format: 'cbor'"),
        0x78 if by_first_bytes(payload) == PayloadCompression::Zlib => {
            Some("it begins as zlib does: set compression: 'zlib'")
        }
        // A text may look like fields, and has no such bytes.
        _ if payload.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace())
            && wire::fields(payload, 0, "").is_ok() =>
        {
            Some("it reads as Protocol Buffers: set format: { type: 'protobuf', … }, or 'sparkplug'")
        }
        _ => None,
    }
}
