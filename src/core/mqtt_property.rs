//! Reads numbers, strings and properties as MQTT writes them: MQTT 5, sections 1.5 and 2.2.2.
//!
//! Each function takes its value off the front of `rest` and copies nothing. `None` means that the
//! bytes end too early or are not such a value.

use crate::core::varint;

/// Big-endian.
#[inline]
pub fn number<const N: usize>(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head.iter().fold(0, |value, byte| value << 8 | *byte as u32))
}

/// Bytes behind their length of two bytes; strings are the same.
#[inline]
pub fn binary<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number::<2>(rest)? as usize;
    take(rest, len)
}

/// An integer of variable length: at most four bytes, and no more than it needs, [MQTT-1.5.5-1].
#[inline]
pub fn varint(rest: &mut &[u8]) -> Option<usize> {
    let begin = *rest;
    let value = varint::read::<4>(rest).ok()?;
    let is_overlong = varint::is_overlong(&begin[..begin.len() - rest.len()]);
    (!is_overlong).then_some(value as usize)
}

/// The properties, behind their length.
#[inline]
pub fn properties<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = varint(rest)?;
    take(rest, len)
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

/// Takes one property off: its identifier, which is below 64, and its value. MQTT 5, table 2-4.
pub fn property<'a>(rest: &mut &'a [u8]) -> Option<(u8, Value<'a>)> {
    let (id, tail) = rest.split_first()?;
    *rest = tail;
    let value = match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Number(number::<1>(rest)?),
        0x13 | 0x21 | 0x22 | 0x23 => Value::Number(number::<2>(rest)?),
        0x02 | 0x11 | 0x18 | 0x27 => Value::Number(number::<4>(rest)?),
        0x0b => Value::Number(varint(rest)? as u32),
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => Value::Bytes(binary(rest)?),
        0x26 => Value::Pair(binary(rest)?, binary(rest)?),
        _ => return None,
    };
    Some((*id, value))
}

/// Identifiers of properties, a bit for each.
pub type PropertySet = u64;

pub const fn property_set(ids: &[u8]) -> PropertySet {
    let mut set = 0;
    let mut i = 0;
    while i < ids.len() {
        set |= 1 << ids[i];
        i += 1;
    }
    set
}

/// Properties that a packet may have several times: user properties and subscription identifiers.
pub const REPEATABLE: PropertySet = property_set(&[0x26, 0x0b]);

/// The properties of a PUBLISH; user properties and subscription identifiers can be read.
#[derive(Debug, Clone, Copy)]
pub struct Properties<'a>(&'a [u8]);

pub const SUBSCRIPTION_ID: u8 = 0x0b;
const USER: u8 = 0x26;

impl<'a> Properties<'a> {
    pub const NONE: Properties<'static> = Properties(&[]);

    /// Takes bytes that were checked before.
    pub fn checked(bytes: &'a [u8]) -> Self {
        Properties(bytes)
    }

    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first user property of that name, if its value is UTF-8.
    pub fn user(self, key: &str) -> Option<&'a str> {
        let value = self.iter().find_map(|property| match property {
            (USER, Value::Pair(name, value)) if name == key.as_bytes() => Some(value),
            _ => None,
        });
        std::str::from_utf8(value?).ok()
    }

    /// Names and values of all user properties.
    pub fn users(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.iter().filter_map(|property| match property {
            (USER, Value::Pair(name, value)) => Some((name, value)),
            _ => None,
        })
    }

    /// The identifiers of the subscriptions that brought the message.
    pub fn subscription_ids(self) -> impl Iterator<Item = usize> + Clone {
        self.iter().filter_map(|property| match property {
            (SUBSCRIPTION_ID, Value::Number(id)) => Some(id as usize),
            _ => None,
        })
    }

    fn iter(self) -> impl Iterator<Item = (u8, Value<'a>)> + Clone {
        let mut rest = self.0;
        std::iter::from_fn(move || property(&mut rest))
    }
}
