//! Integers of variable length, seven bits per byte, least significant first: the lengths of MQTT packets and properties,
//! and the lengths of strings in ClickHouse's formats (LEB128).

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end inside the integer.
    Incomplete,
    /// The integer has more bytes than allowed, or more than 64 bits.
    TooLong,
}

/// Takes an integer of at most `MAX_BYTES` bytes off the front of `rest`.
#[inline(always)]
pub fn read<const MAX_BYTES: usize>(rest: &mut &[u8]) -> Result<u64, VarintError> {
    let mut value = 0;
    for i in 0..MAX_BYTES {
        let byte = *rest.get(i).ok_or(VarintError::Incomplete)?;
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::TooLong)
}

/// Appends `value`.
#[inline]
pub fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Whether the bytes of an integer are more than it needs: then the last one adds nothing.
#[inline(always)]
pub fn is_overlong(bytes: &[u8]) -> bool {
    matches!(bytes, [_, .., 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_carries_seven_bits() {
        for (value, bytes) in [
            (0, &b"\x00"[..]),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (300, b"\xac\x02"),
            (268_435_455, b"\xff\xff\xff\x7f"),
            (u64::MAX, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ] {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!((out.as_slice(), is_overlong(&out)), (bytes, false));
            out.extend_from_slice(b"more");
            let mut rest = out.as_slice();
            assert_eq!((read::<10>(&mut rest), rest), (Ok(value), &b"more"[..]));
            for end in 0..bytes.len() {
                assert_eq!(read::<10>(&mut &bytes[..end]), Err(VarintError::Incomplete));
            }
        }
    }

    #[test]
    fn integers_that_are_too_long_are_refused() {
        assert_eq!(read::<4>(&mut &b"\x80\x80\x80\x80\x01"[..]), Err(VarintError::TooLong));
        let mut over = [0xff; 10];
        over[9] = 2;
        assert_eq!(read::<10>(&mut &over[..]), Err(VarintError::TooLong));
        for (overlong, value) in [(&b"\x80\x00"[..], 0), (b"\xff\x00", 127), (b"\x80\x81\x00", 128)] {
            assert_eq!(
                read::<4>(&mut &overlong[..]),
                Ok(value),
                "the shortest form is the caller's to demand"
            );
            assert!(is_overlong(overlong));
        }
    }
}
