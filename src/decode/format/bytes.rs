//! The bytes of a binary format, read from the beginning on.

use crate::core::reason::{Code, Reason};
use crate::decode::value_reader::Result;

#[derive(Debug, Clone)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where they begin in the payload.
    begin: usize,
    format: &'static str,
}

impl<'a> Bytes<'a> {
    /// `format` is how errors name it.
    pub fn new(bytes: &'a [u8], format: &'static str) -> Bytes<'a> {
        Bytes::within(bytes, 0, format)
    }

    /// The bytes of a part of a payload that begins at `begin`.
    pub fn within(bytes: &'a [u8], begin: usize, format: &'static str) -> Bytes<'a> {
        Bytes { bytes, at: 0, begin, format }
    }

    /// How far they are read, in the payload.
    pub fn position(&self) -> usize {
        self.begin + self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub fn byte(&mut self) -> Result<u8> {
        let byte = self.peek().ok_or_else(|| self.invalid("it ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.left() {
            return Err(self.invalid("it is shorter than it announces"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    /// A number of bytes, the highest first.
    pub fn number(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A number of values that are announced: each takes at least `min` bytes.
    pub fn count(&self, count: u64, min: usize) -> Result<usize> {
        match usize::try_from(count) {
            Ok(count) if count.checked_mul(min).is_some_and(|bytes| bytes <= self.left()) => Ok(count),
            _ => Err(self.invalid("it is shorter than it announces")),
        }
    }

    /// The payload ends here.
    pub fn finish(&self) -> Result<()> {
        if self.left() > 0 { Err(self.invalid("something follows the value")) } else { Ok(()) }
    }

    #[cold]
    pub fn invalid(&self, what: &str) -> Box<Reason> {
        match self.bytes.is_empty() && self.begin == 0 {
            true => Box::new(Reason::new(Code::PayloadInvalid, "the payload is empty")),
            false => invalid_at(self.format, what, self.begin + self.at.min(self.bytes.len())),
        }
    }
}

/// The reason of a payload that is not of its format.
#[cold]
pub fn invalid_at(format: &str, what: &str, at: usize) -> Box<Reason> {
    Box::new(Reason::new(Code::PayloadInvalid, format!("no {format}: {what}, at byte {at}")))
}
