//! Reads the fields of Protocol Buffers messages from a FileDescriptorSet as `protoc
//! --descriptor_set_out --include_imports` writes it. It is a message itself:
//! <https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/descriptor.proto>.

use std::collections::HashMap;

use crate::core::reason::{Code, Reason};
use crate::decode::format::wire::{Field, fields};
use crate::decode::tape::MAX_DEPTH;
use crate::decode::value_reader::Result;

const NAME: &str = "FileDescriptorSet";

#[derive(Debug)]
pub struct Descriptors {
    messages: Vec<Message>,
    enums: Vec<HashMap<i32, String>>,
    /// By full name, without the dot ahead.
    message_places: HashMap<String, usize>,
    enum_places: HashMap<String, usize>,
}

#[derive(Debug, Default)]
pub struct Message {
    pub name: String,
    pub fields: Vec<FieldType>,
    /// An entry of a map: a key and a value.
    pub is_entry: bool,
}

#[derive(Debug)]
pub struct FieldType {
    pub number: u32,
    pub name: String,
    pub json_name: String,
    pub kind: Kind,
    pub is_repeated: bool,
    /// Whether one that is not there is missing, and not its zero.
    pub has_presence: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Double,
    Float,
    Int64,
    UInt64,
    Int32,
    UInt32,
    SInt32,
    SInt64,
    SFixed32,
    SFixed64,
    Fixed32,
    Fixed64,
    Bool,
    String,
    Bytes,
    /// The place of the type.
    Message(usize),
    Enum(usize),
}

/// The type of a field before all names are known.
struct Unresolved {
    message: usize,
    field: usize,
    type_name: String,
}

impl Descriptors {
    pub fn read(set: &[u8]) -> Result<Descriptors> {
        let mut descriptors = Descriptors {
            messages: Vec::new(),
            enums: Vec::new(),
            message_places: HashMap::new(),
            enum_places: HashMap::new(),
        };
        let mut unresolved = Vec::new();
        for file in children(&fields(set, 0, NAME)?, 1) {
            let file = fields(file, 0, NAME)?;
            let package = text(&file, 2);
            let is_proto3 = text(&file, 12) == "proto3";
            for message in children(&file, 4) {
                descriptors.add_message(message, &package, is_proto3, &mut unresolved, 0)?;
            }
            for described in children(&file, 5) {
                descriptors.add_enum(described, &package)?;
            }
        }
        for Unresolved { message, field, type_name } in unresolved {
            let scope = &descriptors.messages[message].name;
            let message_place = resolve(&descriptors.message_places, scope, &type_name);
            let enum_place = resolve(&descriptors.enum_places, scope, &type_name);
            let described = &mut descriptors.messages[message].fields[field];
            match (described.kind, message_place, enum_place) {
                (Kind::Message(_), Some(place), _) => described.kind = Kind::Message(place),
                (Kind::Enum(_), _, Some(place)) => described.kind = Kind::Enum(place),
                // A type of another file that is not in the set: its bytes.
                (Kind::Message(_), None, _) => described.kind = Kind::Bytes,
                _ => described.kind = Kind::Int32,
            }
        }
        Ok(descriptors)
    }

    pub fn message(&self, name: &str) -> Option<usize> {
        self.message_places.get(name.trim_start_matches('.')).copied()
    }

    pub fn at(&self, place: usize) -> &Message {
        &self.messages[place]
    }

    pub fn enum_name(&self, place: usize, number: i32) -> Option<&str> {
        self.enums.get(place)?.get(&number).map(String::as_str)
    }

    /// The name in the .proto file of a field that is called so in JSON.
    pub fn proto_name(&self, json_name: &str) -> Option<&str> {
        let all = || self.messages.iter().flat_map(|message| &message.fields);
        if all().any(|field| field.name == json_name) {
            return None;
        }
        all().find(|field| field.json_name == json_name).map(|field| field.name.as_str())
    }

    fn add_message(
        &mut self,
        message: &[u8],
        around: &str,
        is_proto3: bool,
        unresolved: &mut Vec<Unresolved>,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            let message = format!("no {NAME}: its messages are nested more than {MAX_DEPTH} deep");
            return Err(Box::new(Reason::new(Code::PayloadInvalid, message)));
        }
        let described = fields(message, 0, NAME)?;
        let name = full_name(around, &text(&described, 1));
        let place = self.messages.len();
        self.message_places.insert(name.clone(), place);
        let mut fields_of_it = Vec::new();
        for field in children(&described, 2) {
            let field = fields(field, 0, NAME)?;
            let kind = kind(number(&field, 5));
            if matches!(kind, Kind::Message(_) | Kind::Enum(_)) {
                let type_name = text(&field, 6);
                unresolved.push(Unresolved { message: place, field: fields_of_it.len(), type_name });
            }
            let is_repeated = number(&field, 4) == 3;
            let is_in_oneof = field.iter().any(|field| field.number == 9);
            let json_name = text(&field, 10);
            let name = text(&field, 1);
            fields_of_it.push(FieldType {
                number: number(&field, 3) as u32,
                json_name: if json_name.is_empty() { camel_case(&name) } else { json_name },
                name,
                kind,
                is_repeated,
                has_presence: !is_repeated && (!is_proto3 || is_in_oneof || matches!(kind, Kind::Message(_))),
            });
        }
        let options = children(&described, 7).next().map(|options| fields(options, 0, NAME)).transpose()?;
        let is_entry = options.is_some_and(|options| number(&options, 7) == 1);
        self.messages.push(Message { name: name.clone(), fields: fields_of_it, is_entry });
        for inner in children(&described, 3) {
            self.add_message(inner, &name, is_proto3, unresolved, depth + 1)?;
        }
        for inner in children(&described, 4) {
            self.add_enum(inner, &name)?;
        }
        Ok(())
    }

    fn add_enum(&mut self, described: &[u8], around: &str) -> Result<()> {
        let described = fields(described, 0, NAME)?;
        let mut names = HashMap::new();
        for value in children(&described, 2) {
            let value = fields(value, 0, NAME)?;
            // The first of two names for a number counts.
            names.entry(number(&value, 2) as i32).or_insert_with(|| text(&value, 1));
        }
        self.enum_places.insert(full_name(around, &text(&described, 1)), self.enums.len());
        self.enums.push(names);
        Ok(())
    }
}

fn full_name(around: &str, name: &str) -> String {
    if around.is_empty() { name.into() } else { format!("{around}.{name}") }
}

/// The name in JSON of a field that has none of its own, as protoc derives it.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |mut all, word| {
        let mut letters = word.chars();
        all.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        all + letters.as_str()
    })
}

/// The type that a field within `scope` means: by its full name behind a dot, as protoc writes it, else from the inside out, as
/// protobufjs has the entries of maps. Source: descriptor.proto, `FieldDescriptorProto.type_name`.
fn resolve(places: &HashMap<String, usize>, scope: &str, name: &str) -> Option<usize> {
    if let Some(full) = name.strip_prefix('.') {
        return places.get(full).copied();
    }
    let mut scope = scope;
    loop {
        if let Some(place) = places.get(&full_name(scope, name)) {
            return Some(*place);
        }
        if scope.is_empty() {
            return None;
        }
        scope = scope.rsplit_once('.').map_or("", |(around, _)| around);
    }
}

fn children<'f, 'a>(fields: &'f [Field<'a>], number: u32) -> impl Iterator<Item = &'a [u8]> + use<'f, 'a> {
    fields.iter().filter(move |field| field.number == number).filter_map(|field| field.value.bytes())
}

fn text(fields: &[Field<'_>], number: u32) -> String {
    let found = fields.iter().rev().find(|field| field.number == number);
    found.and_then(|field| field.value.text()).unwrap_or_default().into()
}

fn number(fields: &[Field<'_>], number: u32) -> u64 {
    let found = fields.iter().rev().find(|field| field.number == number);
    found.and_then(|field| field.value.number()).unwrap_or(0)
}

/// Source: descriptor.proto, `FieldDescriptorProto.Type`.
fn kind(number: u64) -> Kind {
    match number {
        1 => Kind::Double,
        2 => Kind::Float,
        3 => Kind::Int64,
        4 => Kind::UInt64,
        5 => Kind::Int32,
        6 => Kind::Fixed64,
        7 => Kind::Fixed32,
        8 => Kind::Bool,
        9 => Kind::String,
        11 => Kind::Message(0),
        13 => Kind::UInt32,
        14 => Kind::Enum(0),
        15 => Kind::SFixed32,
        16 => Kind::SFixed64,
        17 => Kind::SInt32,
        18 => Kind::SInt64,
        _ => Kind::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_nested_to_a_depth_that_the_stack_has() {
        let varint = |mut value: usize| {
            let mut out = Vec::new();
            while value >= 0x80 {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.push(value as u8);
            out
        };
        let nested = |depth: usize| {
            let mut message = Vec::new();
            for field in std::iter::repeat_n(3u8, depth).chain([4, 1]) {
                message = [vec![field << 3 | 2], varint(message.len()), message].concat();
            }
            message
        };
        assert_eq!(Descriptors::read(&nested(MAX_DEPTH)).unwrap().messages.len(), MAX_DEPTH + 1);
        for depth in [MAX_DEPTH + 1, 5_000] {
            let reason = Descriptors::read(&nested(depth)).unwrap_err();
            let message = "no FileDescriptorSet: its messages are nested more than 128 deep";
            assert_eq!((reason.code, &*reason.message), (Code::PayloadInvalid, message));
        }
    }
}
