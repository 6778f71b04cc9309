//! The bytes of a binary format, read from the beginning on.

use crate::core::reason::{Code, Reason};
use crate::decode::value_reader::Result;

#[derive(Debug, Clone)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
    format: &'static str,
}

impl<'a> Bytes<'a> {
    /// `format` is how errors name it.
    pub fn new(bytes: &'a [u8], format: &'static str) -> Bytes<'a> {
        Bytes { bytes, at: 0, format }
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
        let message = match self.bytes.is_empty() {
            true => "the payload is empty".into(),
            false => format!("no {}: {what}, at byte {}", self.format, self.at.min(self.bytes.len())),
        };
        Box::new(Reason::new(Code::PayloadInvalid, message))
    }
}
