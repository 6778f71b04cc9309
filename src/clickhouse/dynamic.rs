//! Values whose type is known only when they come: those of Dynamic columns, and at the paths of JSON columns.
//!
//! - While a batch is built, a [`Column`](crate::clickhouse::Column) keeps such values row by row, in ClickHouse's own
//!   binary form of a Dynamic value: its type, then the value.
//! - For a block they are put into columns by path and type: see [`Documents`] and [`Dynamic`]. The engine says the types,
//!   so that ClickHouse infers nothing, and no row changes what another one becomes.
//!
//! ```text
//! value     type, then by type:
//!   Nothing  0x00            nothing
//!   Bool     0x2d            one byte
//!   UInt64   0x04            8 bytes, little-endian
//!   Int64    0x0a            8 bytes, little-endian
//!   Float64  0x0e            8 bytes, little-endian
//!   String   0x15            varint length, bytes
//!   Array    0x1e item type  varint count, items; of a Nullable (0x23 type) each behind a byte, 1 for NULL
//!   Dynamic  0x2b max types  a value, within an Array
//!   JSON     0x30 …          a document, within an Array or a Dynamic
//! document  varint count of paths; per path: varint length, path, value
//! typed paths precede it in the columns of JSON types that have some: varint count; per path its place (varint), varint
//! length, and the row as `Column::put_row` writes it
//! ```
//!
//! Source: <https://clickhouse.com/docs/sql-reference/data-types/data-types-binary-encoding>, and ClickHouse's
//! `SerializationObject` and `SerializationDynamic`: version 1 of both, which ClickHouse reads since it has these types.

use crate::clickhouse::column_block::BASIC_DISCRIMINATORS;
use crate::clickhouse::documents::Documents;
use crate::clickhouse::json_type::{JsonLayout, Limits};
use crate::clickhouse::native::BlockSink;
use crate::core::varint;

/// The type of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DynamicType {
    /// How many lists are around it.
    pub depth: u8,
    pub base: Base,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    Bool,
    Int64,
    UInt64,
    Float64,
    String,
    Json,
    /// Only within a list.
    Dynamic,
}

const NOTHING: u8 = 0x00;
const ARRAY: u8 = 0x1e;
const NULLABLE: u8 = 0x23;
const DYNAMIC: u8 = 0x2b;
const JSON: u8 = 0x30;
/// A Dynamic within a list has the limit of a plain one.
const NESTED_TYPES: u8 = 32;
/// The variant of a Dynamic that has the values of all types beyond its limit.
const SHARED: &str = "SharedVariant";
const NULL_DISCRIMINATOR: u8 = 255;
/// Discriminators are bytes, and one of them is NULL.
const MAX_TYPES: usize = 254;
/// Source: ClickHouse, `SerializationDynamic::SerializationVersion`.
const DYNAMIC_V1: u64 = 1;

impl DynamicType {
    pub const fn scalar(base: Base) -> DynamicType {
        DynamicType { depth: 0, base }
    }

    pub const fn list(base: Base) -> DynamicType {
        DynamicType { depth: 1, base }
    }

    /// Whether items in a list of it can be NULL by themselves.
    pub fn is_nullable_item(base: Base) -> bool {
        !matches!(base, Base::Json | Base::Dynamic)
    }

    /// Writes it as ClickHouse encodes types; `limits` are those around it.
    pub fn put(self, limits: Limits, out: &mut Vec<u8>) {
        out.extend(std::iter::repeat_n(ARRAY, self.depth.into()));
        if self.depth > 0 && DynamicType::is_nullable_item(self.base) {
            out.push(NULLABLE);
        }
        match self.base {
            Base::Bool => out.push(0x2d),
            Base::UInt64 => out.push(0x04),
            Base::Int64 => out.push(0x0a),
            Base::Float64 => out.push(0x0e),
            Base::String => out.push(0x15),
            Base::Dynamic => out.extend_from_slice(&[DYNAMIC, NESTED_TYPES]),
            Base::Json => {
                let Limits { paths, types } = if self.depth > 0 { limits.nested() } else { limits };
                out.extend_from_slice(&[JSON, 0]);
                varint::write(out, paths as u64);
                out.push(types.min(MAX_TYPES) as u8);
                // Neither typed nor skipped paths.
                out.extend_from_slice(&[0, 0, 0]);
            }
        }
    }

    /// Takes a type off the front of `bytes`; `None` is that of NULL.
    pub fn take(bytes: &mut &[u8]) -> Option<DynamicType> {
        let mut depth = 0;
        loop {
            let base = match take_byte(bytes) {
                ARRAY => {
                    depth += 1;
                    continue;
                }
                NULLABLE => continue,
                0x2d => Base::Bool,
                0x04 => Base::UInt64,
                0x0a => Base::Int64,
                0x0e => Base::Float64,
                0x15 => Base::String,
                DYNAMIC => {
                    take_byte(bytes);
                    Base::Dynamic
                }
                JSON => {
                    take_byte(bytes);
                    take_varint(bytes);
                    take(bytes, 4);
                    Base::Json
                }
                _ => return None,
            };
            return Some(DynamicType { depth, base });
        }
    }

    fn name(self, limits: Limits) -> String {
        let base = match self.base {
            Base::Bool => "Bool".into(),
            Base::Int64 => "Int64".into(),
            Base::UInt64 => "UInt64".into(),
            Base::Float64 => "Float64".into(),
            Base::String => "String".into(),
            Base::Dynamic => "Dynamic".into(),
            Base::Json if self.depth > 0 => limits.nested().json_name(),
            Base::Json => limits.json_name(),
        };
        let item = match self.depth > 0 && DynamicType::is_nullable_item(self.base) {
            true => format!("Nullable({base})"),
            false => base,
        };
        (0..self.depth).fold(item, |inner, _| format!("Array({inner})"))
    }
}

/// NULL, as a value.
pub fn put_nothing(out: &mut Vec<u8>) {
    out.push(NOTHING);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::write(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

// The decoder of this process wrote these bytes: they are never short. Where it were, zeros are read.

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    head
}

pub fn take_byte(bytes: &mut &[u8]) -> u8 {
    take(bytes, 1).first().copied().unwrap_or(0)
}

#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> usize {
    // Most are lengths of short texts.
    if let [byte @ 0..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return usize::from(*byte);
    }
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = take_byte(bytes);
        value |= ((byte & 0x7f) as usize) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let len = take_varint(bytes);
    take(bytes, len)
}

fn skip_value(dynamic_type: DynamicType, bytes: &mut &[u8]) {
    let DynamicType { depth, base } = dynamic_type;
    skip_item(depth, base, false, bytes);
}

fn skip_item(depth: u8, base: Base, is_in_list: bool, bytes: &mut &[u8]) {
    if depth > 0 {
        (0..take_varint(bytes)).for_each(|_| skip_item(depth - 1, base, true, bytes));
        return;
    }
    if is_in_list && DynamicType::is_nullable_item(base) && take_byte(bytes) == 1 {
        return;
    }
    match base {
        Base::Bool => drop(take(bytes, 1)),
        Base::String => drop(take_bytes(bytes)),
        Base::Int64 | Base::UInt64 | Base::Float64 => drop(take(bytes, 8)),
        Base::Dynamic => skip_dynamic(bytes),
        Base::Json => {
            for _ in 0..take_varint(bytes) {
                take_bytes(bytes);
                skip_dynamic(bytes);
            }
        }
    }
}

pub fn skip_dynamic(bytes: &mut &[u8]) {
    if let Some(dynamic_type) = DynamicType::take(bytes) {
        skip_value(dynamic_type, bytes);
    }
}

/// Values of a type, side by side, as a block carries them.
#[derive(Debug, Clone)]
enum Values {
    /// Scalars of one width, or strings.
    Plain {
        nulls: Option<Vec<u8>>,
        data: Vec<u8>,
        rows: usize,
    },
    List {
        ends: Vec<u8>,
        items: Box<Values>,
    },
    Dynamic(Dynamic),
    Json(Documents),
}

impl Values {
    fn new(dynamic_type: DynamicType, limits: Limits) -> Values {
        let DynamicType { depth, base } = dynamic_type;
        let inner = if depth > 0 { limits.nested() } else { limits };
        let item = match base {
            Base::Dynamic => Values::Dynamic(Dynamic::new(NESTED_TYPES.into(), Limits::default())),
            Base::Json => Values::Json(Documents::new(JsonLayout::untyped(inner))),
            _ => Values::Plain { nulls: (depth > 0).then(Vec::new), data: Vec::new(), rows: 0 },
        };
        (0..depth).fold(item, |items, _| Values::List { ends: Vec::new(), items: Box::new(items) })
    }

    fn rows(&self) -> usize {
        match self {
            Values::Plain { rows, .. } => *rows,
            Values::List { ends, .. } => ends.len() / 8,
            Values::Dynamic(dynamic) => dynamic.rows(),
            Values::Json(documents) => documents.rows,
        }
    }

    fn push(&mut self, base: Base, bytes: &mut &[u8]) {
        match self {
            Values::Plain { nulls, data, rows } => {
                *rows += 1;
                let mut is_null = false;
                if let Some(nulls) = nulls {
                    is_null = take_byte(bytes) == 1;
                    nulls.push(is_null as u8);
                }
                let width = match base {
                    Base::Bool => 1,
                    Base::String if is_null => return data.push(0),
                    Base::String => return put_bytes(data, take_bytes(bytes)),
                    _ => 8,
                };
                match is_null {
                    true => data.extend(std::iter::repeat_n(0, width)),
                    false => data.extend_from_slice(take(bytes, width)),
                }
            }
            Values::List { ends, items } => {
                let count = take_varint(bytes);
                (0..count).for_each(|_| items.push(base, bytes));
                ends.extend_from_slice(&(items.rows() as u64).to_le_bytes());
            }
            Values::Dynamic(dynamic) => dynamic.push(bytes),
            Values::Json(documents) => documents.push(bytes),
        }
    }

    fn complete(&mut self) {
        match self {
            Values::Plain { .. } => {}
            Values::List { items, .. } => items.complete(),
            Values::Dynamic(dynamic) => dynamic.complete(),
            Values::Json(documents) => documents.complete(),
        }
    }

    fn encode_prefix(&self, out: &mut impl BlockSink) {
        match self {
            Values::Plain { .. } => {}
            Values::List { items, .. } => items.encode_prefix(out),
            Values::Dynamic(dynamic) => dynamic.encode_prefix(out),
            Values::Json(documents) => documents.encode_prefix(out),
        }
    }

    fn encode_values(&self, out: &mut impl BlockSink) {
        match self {
            Values::Plain { nulls, data, .. } => {
                if let Some(nulls) = nulls {
                    out.put(nulls);
                }
                out.put(data);
            }
            Values::List { ends, items } => {
                out.put(ends);
                items.encode_values(out);
            }
            Values::Dynamic(dynamic) => dynamic.encode_values(out),
            Values::Json(documents) => documents.encode_values(out),
        }
    }
}

/// A Dynamic column of a block: its values by type.
#[derive(Debug, Clone)]
pub struct Dynamic {
    /// How many types have values of their own.
    max_types: usize,
    /// The limits of JSON values.
    limits: Limits,
    /// In the order in which they came.
    types: Vec<(DynamicType, Values)>,
    /// Values of types beyond the limit, as they are.
    shared: Vec<u8>,
    /// Per row the place of its type in `types`; [`Dynamic::SHARED_PLACE`], or NULL.
    places: Vec<u8>,
}

impl Dynamic {
    const SHARED_PLACE: u8 = 254;

    pub fn new(max_types: usize, limits: Limits) -> Dynamic {
        Dynamic {
            max_types: max_types.min(MAX_TYPES - 1),
            limits,
            types: Vec::new(),
            shared: Vec::new(),
            places: Vec::new(),
        }
    }

    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// Appends NULL until there are `rows` rows.
    pub fn pad(&mut self, rows: usize) {
        self.places.resize(rows, NULL_DISCRIMINATOR);
    }

    /// Appends the value that stands at the beginning of `bytes`, and takes it off them.
    pub fn push(&mut self, bytes: &mut &[u8]) {
        let start = *bytes;
        let Some(dynamic_type) = DynamicType::take(bytes) else {
            return self.places.push(NULL_DISCRIMINATOR);
        };
        let place = self.types.iter().position(|(known, _)| *known == dynamic_type);
        let has_room = self.types.len() < self.max_types;
        let place = match place {
            None if has_room => {
                self.types.push((dynamic_type, Values::new(dynamic_type, self.limits)));
                Some(self.types.len() - 1)
            }
            place => place,
        };
        match place {
            Some(place) => {
                self.types[place].1.push(dynamic_type.base, bytes);
                self.places.push(place as u8);
            }
            None => {
                skip_value(dynamic_type, bytes);
                put_bytes(&mut self.shared, &start[..start.len() - bytes.len()]);
                self.places.push(Dynamic::SHARED_PLACE);
            }
        }
    }

    /// To be called when all rows are in.
    pub fn complete(&mut self) {
        self.types.iter_mut().for_each(|(_, values)| values.complete());
    }

    /// The variants in the order of their names, which is what discriminators count; none is the shared one.
    fn variants(&self) -> Vec<(String, Option<usize>)> {
        let names = self.types.iter().enumerate();
        let mut variants: Vec<_> =
            names.map(|(place, (dynamic_type, _))| (dynamic_type.name(self.limits), Some(place))).collect();
        variants.push((SHARED.into(), None));
        variants.sort();
        variants
    }

    pub fn encode_prefix(&self, out: &mut impl BlockSink) {
        let variants = self.variants();
        let mut head = DYNAMIC_V1.to_le_bytes().to_vec();
        varint::write(&mut head, self.max_types as u64);
        varint::write(&mut head, self.types.len() as u64);
        for (name, _) in variants.iter().filter(|(_, place)| place.is_some()) {
            put_bytes(&mut head, name.as_bytes());
        }
        head.extend_from_slice(&BASIC_DISCRIMINATORS.to_le_bytes());
        out.put(&head);
        for place in variants.iter().filter_map(|(_, place)| *place) {
            self.types[place].1.encode_prefix(out);
        }
    }

    pub fn encode_values(&self, out: &mut impl BlockSink) {
        let variants = self.variants();
        let mut discriminators = [NULL_DISCRIMINATOR; 256];
        for (discriminator, (_, place)) in variants.iter().enumerate() {
            let place = place.unwrap_or(Dynamic::SHARED_PLACE.into());
            discriminators[place] = discriminator as u8;
        }
        let places: Vec<u8> = self.places.iter().map(|place| discriminators[*place as usize]).collect();
        out.put(&places);
        for (_, place) in &variants {
            match place {
                Some(place) => self.types[*place].1.encode_values(out),
                None => out.put(&self.shared),
            }
        }
    }
}
