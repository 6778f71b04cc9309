//! The compressed frame of ClickHouse: what `decompress=1` expects in the body of an INSERT.
//!
//! Source: <https://clickhouse.com/docs/reference/interfaces/specs/NativeFormat#frame-format>. Frames may follow one another
//! in one body, wherever the blocks in them begin and end, but all by the same method: ClickHouse 26.7 refuses a mixture
//! (271).
//!
//! ```text
//!  0  16  CityHash128 of the rest
//! 16  u8  method: 0x02 none, 0x82 LZ4, 0x90 ZSTD
//! 17  u32 bytes of the frame from 16 on
//! 21  u32 bytes before compression
//! 25      the data
//! ```

use std::io;

use cityhash_rs::cityhash_102_128;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::config::Compression;

const HASH: usize = 16;
pub const HEAD: usize = HASH + 9;

/// Higher levels cost far more than they save on blocks of telemetry.
const ZSTD_LEVEL: i32 = 3;

/// Makes frames, and keeps the memory that this takes.
pub struct Compressor {
    method: Method,
    scratch: Vec<u8>,
}

/// How much is done to make data smaller. The method is the same: a body may not mix them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    Full,
    /// LZ4 does not even look.
    StoreOnly,
}

enum Method {
    None,
    Lz4(CompressTable),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// Reserves capacity for `bytes` of data; it grows for more.
    pub fn new(compression: Compression, bytes: usize) -> io::Result<Compressor> {
        let method = match compression {
            Compression::None => Method::None,
            Compression::Lz4 => Method::Lz4(CompressTable::default()),
            Compression::Zstd => Method::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        Ok(Compressor { scratch: vec![0; method.max_compressed(bytes)], method })
    }

    /// Appends a frame of `data`, which must be smaller than 4 GiB; returns its length.
    pub fn append(&mut self, data: &[u8], effort: Effort, out: &mut Vec<u8>) -> io::Result<usize> {
        let Compressor { method, scratch } = self;
        let max = method.max_compressed(data.len());
        if scratch.len() < max {
            scratch.resize(max, 0);
        }
        let (byte, packed) = match method {
            Method::None => (0x02, data),
            Method::Lz4(table) => {
                let len = match effort {
                    Effort::Full => {
                        compress_into_with_table(data, scratch, table).map_err(io::Error::other)?
                    }
                    Effort::StoreOnly => lz4_store(data, scratch),
                };
                (0x82, &scratch[..len])
            }
            Method::Zstd(compressor) => {
                let len = compressor.compress_to_buffer(data, scratch.as_mut_slice())?;
                (0x90, &scratch[..len])
            }
        };
        let bytes = |len: usize| u32::try_from(len).map_err(io::Error::other).map(u32::to_le_bytes);
        let lengths = [bytes(HEAD - HASH + packed.len())?, bytes(data.len())?];
        let start = out.len();
        out.reserve(HEAD + packed.len());
        out.extend_from_slice(&[0; HASH]);
        out.push(byte);
        out.extend_from_slice(lengths.as_flattened());
        out.extend_from_slice(packed);
        // ClickHouse writes the halves of the hash the other way round.
        let hash = cityhash_102_128(&out[start + HASH..]).rotate_right(64);
        out[start..start + HASH].copy_from_slice(&hash.to_le_bytes());
        Ok(HEAD + packed.len())
    }
}

impl Method {
    /// The most that `bytes` of data can become, if they have to be compressed in another buffer first.
    fn max_compressed(&self, bytes: usize) -> usize {
        match self {
            Method::None => 0,
            Method::Lz4(_) => get_maximum_output_size(bytes),
            Method::Zstd(_) => zstd::zstd_safe::compress_bound(bytes),
        }
    }
}

/// `data` as a block of LZ4 that repeats nothing: one sequence, of literals alone.
///
/// Source: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>
fn lz4_store(data: &[u8], out: &mut [u8]) -> usize {
    let mut at = 1;
    out[0] = (data.len().min(15) << 4) as u8;
    if let Some(mut more) = data.len().checked_sub(15) {
        while more >= 255 {
            out[at] = 255;
            more -= 255;
            at += 1;
        }
        out[at] = more as u8;
        at += 1;
    }
    out[at..at + data.len()].copy_from_slice(data);
    at + data.len()
}

/// The data of all frames, one after the other. `None`: a frame is incomplete or damaged.
pub fn decompress_all(mut frames: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    while !frames.is_empty() {
        let packed = frames.get(HASH + 1..HASH + 5)?;
        let len = HASH + u32::from_le_bytes(packed.try_into().ok()?) as usize;
        data.extend(decompress(frames.get(..len)?)?);
        frames = &frames[len..];
    }
    Some(data)
}

/// A frame of all of `data`, which must be smaller than 4 GiB, made with as little memory beside it as can be. ZSTD is not for
/// this.
///
/// `data` has [`HEAD`] bytes in front of what is meant, which the head of a frame takes that is not compressed.
pub fn frame_of(mut data: Vec<u8>, compression: Compression) -> io::Result<Vec<u8>> {
    let bytes = data.len() - HEAD;
    let mut frame = match compression {
        Compression::None => {
            data[HASH] = 0x02;
            data
        }
        Compression::Lz4 | Compression::Zstd => {
            // Zeroed memory of this size is none until it is written.
            let mut frame = vec![0; HEAD + get_maximum_output_size(bytes)];
            let mut table = CompressTable::default();
            let packed = compress_into_with_table(&data[HEAD..], &mut frame[HEAD..], &mut table)
                .map_err(io::Error::other)?;
            frame[HASH] = 0x82;
            frame.truncate(HEAD + packed);
            frame
        }
    };
    frame.shrink_to_fit();
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other).map(u32::to_le_bytes);
    let packed = length(frame.len() - HASH)?;
    frame[HASH + 1..HASH + 5].copy_from_slice(&packed);
    frame[HASH + 5..HEAD].copy_from_slice(&length(bytes)?);
    let hash = cityhash_102_128(&frame[HASH..]).rotate_right(64);
    frame[..HASH].copy_from_slice(&hash.to_le_bytes());
    Ok(frame)
}

/// Bytes that a frame has when it is decompressed, as its head says.
pub fn decompressed_len(frame: &[u8]) -> usize {
    frame
        .get(HASH + 5..HEAD)
        .map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

/// The data of one frame that is all of `frame`. `None`: it is incomplete or damaged.
pub fn decompress(frame: &[u8]) -> Option<Vec<u8>> {
    let (hash, rest) = frame.split_first_chunk::<HASH>()?;
    if u128::from_le_bytes(*hash) != cityhash_102_128(rest).rotate_right(64) {
        return None;
    }
    let (head, data) = rest.split_first_chunk::<9>()?;
    let len = u32::from_le_bytes([head[5], head[6], head[7], head[8]]) as usize;
    let data = match head[0] {
        0x02 => data.to_vec(),
        0x82 => lz4_flex::block::decompress(data, len).ok()?,
        0x90 => zstd::stream::decode_all(data).ok()?,
        _ => return None,
    };
    (data.len() == len).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        for method in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let mut compressor = Compressor::new(method, 1000).unwrap();
            for len in [800_000, 0, 1, 14, 15, 16, 269, 270, 271, 8000] {
                let data: Vec<u8> = b"abcdefgh".iter().copied().cycle().take(len).collect();
                for effort in [Effort::Full, Effort::StoreOnly] {
                    let mut frame = Vec::new();
                    let bytes = compressor.append(&data, effort, &mut frame).unwrap();
                    assert_eq!(bytes, frame.len());
                    assert_eq!(
                        decompress(&frame).as_ref(),
                        Some(&data),
                        "{method:?}, {effort:?}, {len} bytes"
                    );
                    assert_eq!(decompress(&frame[..frame.len() - 1]), None);
                }
            }
        }
    }

    #[test]
    fn a_frame_of_all_is_the_same_frame_and_takes_no_more_than_it() {
        for method in [Compression::None, Compression::Lz4] {
            for len in [0, 1, 1000, 1_000_000] {
                let data: Vec<u8> = b"abcdefgh".iter().copied().cycle().take(len).collect();
                let mut frame = Vec::new();
                Compressor::new(method, len).unwrap().append(&data, Effort::Full, &mut frame).unwrap();
                let mut with_head = vec![7; HEAD];
                with_head.extend(&data);
                with_head.reserve(3_000_000);
                let whole = frame_of(with_head, method).unwrap();
                assert_eq!(decompressed_len(&whole), len);
                assert_eq!(decompress(&whole).unwrap(), data);
                assert_eq!(whole.len(), frame.len(), "{method:?}, {len} bytes");
                assert!(whole.capacity() <= whole.len() + 64, "{} for {}", whole.capacity(), whole.len());
            }
        }
    }

    #[test]
    fn a_frame_is_what_clickhouse_documents() {
        let mut frame = Vec::new();
        Compressor::new(Compression::None, 0).unwrap().append(b"abc", Effort::Full, &mut frame).unwrap();
        assert_eq!(frame[HASH..], *b"\x02\x0c\0\0\0\x03\0\0\0abc");
    }
}
