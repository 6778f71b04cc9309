//! Short runs of bytes, looked at by words: for topics and keys a call into a library takes longer than the work.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The highest bit of each byte that is zero, or wrongly of one above the lowest such byte.
#[inline(always)]
pub const fn zero_byte_mask(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// A word of one byte eight times.
#[inline(always)]
pub const fn splat(byte: u8) -> u64 {
    LOW * byte as u64
}

/// Whether two slices are equal.
#[inline(always)]
pub fn bytes_eq(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let words =
        |s: &[u8]| Some((u64::from_ne_bytes(*s.first_chunk()?), u64::from_ne_bytes(*s.last_chunk()?)));
    let halves =
        |s: &[u8]| Some((u32::from_ne_bytes(*s.first_chunk()?), u32::from_ne_bytes(*s.last_chunk()?)));
    match a.len() {
        8..=16 => words(a) == words(b),
        17..=32 => {
            words(&a[..16]) == words(&b[..16]) && words(&a[a.len() - 16..]) == words(&b[b.len() - 16..])
        }
        4..=7 => halves(a) == halves(b),
        1 => a[0] == b[0],
        _ => a == b,
    }
}

/// Where a byte stands first from `start` on, or the end.
#[inline(always)]
pub fn find(byte: u8, bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = zero_byte_mask(u64::from_le_bytes(*word) ^ splat(byte));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|other| *other != byte) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for len in 0..40 {
            for start in 0..=len {
                let mut bytes = vec![b'.'; len];
                assert_eq!(find(b'/', &bytes, start), len);
                // One bit less, and one more: neighbours that borrow could be taken for it.
                bytes.extend(b"./0/.");
                assert_eq!(find(b'/', &bytes, start), len + 1);
            }
        }
    }

    #[test]
    fn slices_of_every_length_are_compared() {
        for len in 0..70 {
            let bytes: Vec<u8> = (0..len).collect();
            assert!(bytes_eq(&bytes, &bytes.clone()));
            for at in 0..len as usize {
                let mut other = bytes.clone();
                other[at] ^= 0x80;
                assert!(!bytes_eq(&bytes, &other));
                assert!(!bytes_eq(&bytes, &bytes[..at]));
            }
        }
    }
}
