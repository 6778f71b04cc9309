//! The compressed frame of ClickHouse: what `decompress=1` expects in the body of an INSERT.
//!
//! Source: <https://clickhouse.com/docs/reference/interfaces/specs/NativeFormat#frame-format>. Frames, and so the blocks in
//! them, may follow one another in one body, all by the same method: ClickHouse 26.7 refuses a mixture (271).
//!
//! ```text
//!  0  16  CityHash128 of the rest
//! 16  u8  method: 0x02 none, 0x82 LZ4, 0x90 ZSTD
//! 17  u32 bytes of the frame from 16 on
//! 21  u32 bytes before compression
//! 25      the data
//! ```

use std::io;

use bytes::Bytes;
use cityhash_rs::cityhash_102_128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    None,
    Lz4,
    /// With this level.
    Zstd(i32),
}

const HASH: usize = 16;
const HEAD: usize = HASH + 9;

/// `data` must be smaller than 4 GiB.
pub fn compress(data: &[u8], method: Method) -> io::Result<Bytes> {
    let mut frame = vec![0; HEAD];
    let byte = match method {
        Method::None => {
            frame.extend_from_slice(data);
            0x02
        }
        Method::Lz4 => {
            frame.resize(HEAD + lz4_flex::block::get_maximum_output_size(data.len()), 0);
            let len = lz4_flex::block::compress_into(data, &mut frame[HEAD..]).map_err(io::Error::other)?;
            frame.truncate(HEAD + len);
            frame.shrink_to_fit();
            0x82
        }
        Method::Zstd(level) => {
            zstd::stream::copy_encode(data, &mut frame, level)?;
            0x90
        }
    };
    let bytes = |len: usize| u32::try_from(len).map_err(io::Error::other).map(u32::to_le_bytes);
    let lengths = [bytes(frame.len() - HASH)?, bytes(data.len())?];
    frame[HASH] = byte;
    frame[HASH + 1..HEAD].copy_from_slice(lengths.as_flattened());
    // ClickHouse writes the halves of the hash the other way round.
    let hash = cityhash_102_128(&frame[HASH..]).rotate_right(64);
    frame[..HASH].copy_from_slice(&hash.to_le_bytes());
    Ok(Bytes::from(frame))
}

/// The data of one frame that is all of `frame`. `None`: it is not whole.
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
        for data in [&b""[..], b"a", &b"abcdefgh".repeat(1000)] {
            for method in [Method::None, Method::Lz4, Method::Zstd(1)] {
                let frame = compress(data, method).unwrap();
                assert_eq!(decompress(&frame).as_deref(), Some(data), "{method:?}");
                assert_eq!(decompress(&frame[..frame.len() - 1]), None);
            }
        }
    }

    #[test]
    fn a_frame_is_what_clickhouse_documents() {
        let frame = compress(b"abc", Method::None).unwrap();
        assert_eq!(frame[HASH..], *b"\x02\x0c\0\0\0\x03\0\0\0abc");
    }
}
