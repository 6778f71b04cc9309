//! The wire format of Protocol Buffers: <https://protobuf.dev/programming-guides/encoding/>.

use crate::decode::format::bytes::Bytes;
use crate::decode::value_reader::Result;

/// A field as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Wire<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Wire::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn number(self) -> Option<u64> {
        match self {
            Wire::Varint(number) | Wire::Fixed64(number) => Some(number),
            Wire::Fixed32(number) => Some(number.into()),
            Wire::Bytes(_) => None,
        }
    }

    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// The fields of a message, in their order; `format` is how errors name it.
pub fn fields<'a>(message: &'a [u8], format: &'static str) -> Result<Vec<Field<'a>>> {
    let mut bytes = Bytes::new(message, format);
    let mut fields = Vec::new();
    while bytes.left() > 0 {
        fields.push(field(&mut bytes)?);
    }
    Ok(fields)
}

fn field<'a>(bytes: &mut Bytes<'a>) -> Result<Field<'a>> {
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| bytes.invalid("a field has no number"))?;
    let value = match key & 7 {
        0 => Wire::Varint(varint(bytes)?),
        1 => Wire::Fixed64(u64::from_le_bytes(bytes.array()?)),
        2 => {
            let len = varint(bytes)?;
            let len = bytes.count(len, 1)?;
            Wire::Bytes(bytes.take(len)?)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(bytes.array()?)),
        _ => return Err(bytes.invalid("a field has a wire type that is not known")),
    };
    Ok(Field { number, value })
}

fn varint(bytes: &mut Bytes<'_>) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.byte()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(bytes.invalid("a number has more than 64 bits"))
}

/// The numbers of a packed field.
pub fn packed<'a>(content: &'a [u8], kind: u8, format: &'static str) -> Result<Vec<Wire<'a>>> {
    let mut bytes = Bytes::new(content, format);
    let mut values = Vec::new();
    while bytes.left() > 0 {
        values.push(match kind {
            1 => Wire::Fixed64(u64::from_le_bytes(bytes.array()?)),
            5 => Wire::Fixed32(u32::from_le_bytes(bytes.array()?)),
            _ => Wire::Varint(varint(&mut bytes)?),
        });
    }
    Ok(values)
}

pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
