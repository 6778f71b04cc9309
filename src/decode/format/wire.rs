//! The wire format of Protocol Buffers: <https://protobuf.dev/programming-guides/encoding/>.

use crate::decode::format::bytes::Bytes;
use crate::decode::value_reader::Result;

/// A field as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    pub number: u32,
    /// Where its value begins in the payload.
    pub at: usize,
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

impl<'a> Field<'a> {
    /// The fields of a message that is the value; none, if it is another value.
    pub fn fields(self, format: &'static str) -> Result<Vec<Field<'a>>> {
        self.value.bytes().map_or(Ok(Vec::new()), |message| fields(message, self.at, format))
    }
}

/// The fields of a message that begins at `begin` of the payload, in their order; `format` is how errors name it.
pub fn fields<'a>(message: &'a [u8], begin: usize, format: &'static str) -> Result<Vec<Field<'a>>> {
    let mut bytes = Bytes::within(message, begin, format);
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
    let mut at = bytes.position();
    let value = match key & 7 {
        0 => Wire::Varint(varint(bytes)?),
        1 => Wire::Fixed64(u64::from_le_bytes(bytes.array()?)),
        2 => {
            let len = varint(bytes)?;
            let len = bytes.count(len, 1)?;
            at = bytes.position();
            Wire::Bytes(bytes.take(len)?)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(bytes.array()?)),
        _ => return Err(bytes.invalid("a field has a wire type that is not known")),
    };
    Ok(Field { number, at, value })
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

/// The numbers of a packed field, each as a field of its own.
pub fn packed<'a>(field: Field<'a>, kind: u8, format: &'static str) -> Result<Vec<Field<'a>>> {
    let mut bytes = Bytes::within(field.value.bytes().unwrap_or_default(), field.at, format);
    let mut values = Vec::new();
    while bytes.left() > 0 {
        let at = bytes.position();
        let value = match kind {
            1 => Wire::Fixed64(u64::from_le_bytes(bytes.array()?)),
            5 => Wire::Fixed32(u32::from_le_bytes(bytes.array()?)),
            _ => Wire::Varint(varint(&mut bytes)?),
        };
        values.push(Field { number: field.number, at, value });
    }
    Ok(values)
}

pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
