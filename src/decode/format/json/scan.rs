//! Where strings end, 16 or 8 bytes at a time; and booleans.

use crate::core::swar::{splat, zero_byte_mask};

/// A string that begins at `at` and is ASCII without escapes, and where it ends.
#[inline(always)]
pub fn plain_text(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let (end, is_ascii) = plain_run(bytes, at + 1);
    if !is_ascii || bytes.get(end) != Some(&b'"') {
        return None;
    }
    Some((bytes.get(at + 1..end)?, end + 1))
}

/// A boolean that begins at `at`, and where it ends.
#[inline(always)]
pub fn boolean(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let rest = bytes.get(at..)?;
    match rest.starts_with(b"true") {
        true => Some((true, at + 4)),
        false => rest.starts_with(b"false").then_some((false, at + 5)),
    }
}

/// Two masks with a bit for each of 16 bytes: those that need attention in a string, and those that are
/// not ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn classify_block(block: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has SSE2, and a load of 16 bytes need not be aligned.
    unsafe {
        let block = _mm_loadu_si128(block.as_ptr().cast());
        let is = |byte: u8| _mm_cmpeq_epi8(block, _mm_set1_epi8(byte as i8));
        let is_control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
        let stops = _mm_or_si128(_mm_or_si128(is(b'"'), is(b'\\')), is_control);
        (_mm_movemask_epi8(stops) as u32, _mm_movemask_epi8(block) as u32)
    }
}

/// Where a run of characters ends that need no attention in a string: at a quote, a backslash, a control character, or
/// the end. Also whether all of them are ASCII.
#[inline]
pub fn plain_run(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut at = start;
    let mut seen = 0;
    #[cfg(target_arch = "x86_64")]
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let (stops, highs) = classify_block(block);
        if stops != 0 {
            let run = stops.trailing_zeros();
            // Only what stands before it counts.
            return (at + run as usize, seen == 0 && highs & ((1 << run) - 1) == 0);
        }
        seen |= highs as u64;
        at += 16;
    }
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // The lowest high bit that is set marks the first such byte; those above it may be wrong.
        let below_space = word.wrapping_sub(splat(0x20)) & !word & splat(0x80);
        let stop = zero_byte_mask(word ^ splat(b'"')) | zero_byte_mask(word ^ splat(b'\\')) | below_space;
        if stop != 0 {
            let run = stop.trailing_zeros() / 8;
            // Only what stands before it counts.
            seen |= word & splat(0x80) & ((1u64 << (run * 8)) - 1);
            return (at + run as usize, seen == 0);
        }
        seen |= word & splat(0x80);
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        seen |= (*byte as u64) & 0x80;
        at += 1;
    }
    (at, seen == 0)
}
