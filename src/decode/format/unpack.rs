//! Compressed payloads. The unpacked size is limited, so that a small payload does not take all memory.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};

use crate::config::PayloadCompression;
use crate::core::reason::{Code, Reason};
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
        PayloadCompression::Gzip => read(MultiGzDecoder::new(payload), "gzip", max).map(Cow::Owned),
        PayloadCompression::Zlib => read(ZlibDecoder::new(payload), "zlib", max).map(Cow::Owned),
        PayloadCompression::Zstd => match zstd::stream::read::Decoder::new(payload) {
            Ok(decoder) => read(decoder, "zstd", max).map(Cow::Owned),
            Err(error) => Err(invalid("zstd", &error)),
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

fn read(reader: impl Read, name: &str, max: usize) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    match reader.take(max as u64 + 1).read_to_end(&mut unpacked) {
        Ok(_) if unpacked.len() > max => {
            let message = format!("it unpacks to more than maxPayloadBytes, {max}");
            Err(Box::new(Reason::new(Code::PayloadTooLarge, message)))
        }
        Ok(_) => Ok(unpacked),
        Err(error) => Err(invalid(name, &error)),
    }
}

#[cold]
fn invalid(name: &str, error: &std::io::Error) -> Box<Reason> {
    Box::new(Reason::new(Code::PayloadInvalid, format!("no {name}: {error}")))
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
        _ => None,
    }
}
