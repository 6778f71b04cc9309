//! Rows from documents on a tape: for formats other than JSON, and for what a walk over JSON cannot give: any key, the end of a
//! list, one of several paths, rows within rows, and values that are something else first.

use crate::clickhouse::{Column, Kind};
use crate::config::{ColumnSource, Format, Nan, Parse, Protobuf, Reading, Route};
use crate::core::error::Error;
use crate::core::json_path::{Path, Root, Segment};
use crate::core::reason::{Code, Reason};
use crate::decode::format::{self, Descriptors, FormatReader, json};
use crate::decode::known_fields::KnownFields;
use crate::decode::lookup::{self, Place, RowPlace};
use crate::decode::tape::{Tape, Value};
use crate::decode::transform::{Transformed, transform};
use crate::decode::value::{self, does_not_fit};
use crate::decode::value_reader::{Result, Shape, ValueReader};
use crate::decode::{ColumnBinding, Decoder, Message, Rows, Scratch, ValueSource};

/// How a route reads documents from a tape.
#[derive(Debug)]
pub struct DocumentPlan {
    reader: FormatReader,
    nulls: Vec<String>,
    rows: Option<Path>,
    zip: Vec<(String, Path)>,
    columns: Vec<ColumnPlan>,
    /// Where the texts are that are JSON.
    parsed: Vec<Path>,
    /// Where unknown fields are refused.
    known: Option<KnownFields>,
}

/// Where a column's value is, and what is made of it.
#[derive(Debug)]
struct ColumnPlan {
    binding: usize,
    paths: Vec<Path>,
    /// The path leads to the list of a Nested, and the column takes this member of its objects.
    part: Option<String>,
    reading: Reading,
    /// Digits in a text are a number for it, where the format has nothing but texts.
    reads_digits: bool,
}

impl DocumentPlan {
    /// `None`: a walk over the JSON does.
    /// `path` is that of the route, for errors.
    pub fn of(
        path: &str,
        route: &Route,
        bindings: &[ColumnBinding],
    ) -> crate::core::error::Result<Option<DocumentPlan>> {
        let sources = || route.columns.iter().map(|(_, source)| source);
        let is_simple = |path: &Path| path.is_simple();
        let is_walk = route.format == Format::Json
            && route.nan == Nan::Reject
            && route.nulls.is_empty()
            && route.zip.is_empty()
            && route.rows.as_ref().is_none_or(is_simple)
            && sources().all(|source| match source {
                ColumnSource::Path { path, reading, .. } => {
                    path.is_simple() && *reading == Reading::default()
                }
                _ => true,
            });
        if is_walk {
            return Ok(None);
        }
        let descriptors = match &route.format {
            Format::Protobuf(protobuf) => Some(descriptors(path, protobuf)?),
            _ => None,
        };
        let has_texts_alone = matches!(route.format, Format::Text | Format::Csv(_));
        let columns: Vec<_> = bindings
            .iter()
            .enumerate()
            .filter_map(|(at, binding)| {
                let (path, part) = match binding.source() {
                    ValueSource::Payload { path, list: Some(list), .. } => match &path.segments[..] {
                        [Segment::Field(part)] => (Path::field(list), Some(part.clone())),
                        _ => return None,
                    },
                    ValueSource::Payload { path, .. } => nested_part(route, binding, path),
                    ValueSource::Document => (Path { root: Root::Document, segments: Vec::new() }, None),
                    _ => return None,
                };
                let reading = match route.columns.iter().find(|(name, _)| *name == binding.name) {
                    Some((_, ColumnSource::Path { reading, .. })) => reading.clone(),
                    _ => Reading::default(),
                };
                let mut paths = vec![path];
                // A flat field of the name goes before the list.
                if part.is_some()
                    && !route.columns.iter().any(|(name, _)| binding.name.starts_with(name.as_str()))
                {
                    paths.push(Path::field(&binding.name));
                }
                paths.extend(reading.other_paths.iter().cloned());
                let kind = &binding.column_type().kind;
                let is_open = matches!(kind, Kind::Variant(_) | Kind::Dynamic { .. });
                let reads_digits = has_texts_alone && is_open;
                Some(ColumnPlan { binding: at, paths, part, reading, reads_digits })
            })
            .collect();
        let parsed = columns.iter().filter(|column| column.reading.parse == Some(Parse::Json));
        let parsed = parsed.flat_map(|column| column.paths.clone()).collect();
        let mut plan = DocumentPlan {
            reader: FormatReader {
                format: route.format.clone(),
                nan: route.nan,
                descriptors,
                edge_nodes: route.edge_nodes.clone(),
                max_bytes: route.max_payload_bytes,
            },
            nulls: route.nulls.clone(),
            rows: route.rows.clone(),
            zip: route.zip.clone(),
            columns,
            parsed,
            known: None,
        };
        plan.name_fields();
        if route.reject_unknown_fields {
            plan.known = Some(plan.known_fields(bindings));
        }
        Ok(Some(plan))
    }

    /// Fields of Protocol Buffers may be called as they are in JSON.
    fn name_fields(&mut self) {
        let Some((descriptors, _)) = &self.reader.descriptors else { return };
        let columns = self.columns.iter_mut().flat_map(|column| &mut column.paths);
        let others =
            self.rows.iter_mut().chain(self.zip.iter_mut().map(|(_, path)| path)).chain(&mut self.parsed);
        for segment in columns.chain(others).flat_map(|path| &mut path.segments) {
            if let Segment::Field(name) = segment
                && let Some(proto_name) = descriptors.proto_name(name)
            {
                *name = proto_name.into();
            }
        }
    }

    fn known_fields(&self, bindings: &[ColumnBinding]) -> KnownFields {
        let mut known = KnownFields::default();
        let levels = self.rows.as_ref().map(|rows| rows.segments.as_slice()).unwrap_or_default();
        let mut add = |path: &Path| {
            if path.root != Root::Element {
                known.add(&[], &path.segments);
            }
            if path.root != Root::Document {
                known.add_within(levels, &path.segments);
            }
        };
        self.columns.iter().flat_map(|column| &column.paths).for_each(&mut add);
        // A field that bears a column's name is known, even where the column is filled from elsewhere.
        bindings.iter().for_each(|binding| add(&Path::field(&binding.name)));
        self.zip.iter().for_each(|(_, path)| add(path));
        known.add_way(levels);
        known
    }

    fn has_whole(&self) -> bool {
        self.columns.iter().any(|column| column.paths.iter().any(|path| path.segments.is_empty()))
    }

    /// Whether a list that is the whole payload is wanted as such.
    fn takes_lists(&self) -> bool {
        let begins_with_item = |path: &Path| {
            matches!(
                path.segments.first(),
                None | Some(Segment::Item(_) | Segment::FromEnd(_) | Segment::EachItem)
            )
        };
        let is_in_document = |path: &Path| self.rows.is_none() || path.root != Root::Element;
        self.columns
            .iter()
            .any(|column| column.paths.iter().any(|p| begins_with_item(p) && is_in_document(p)))
            || self.rows.as_ref().is_some_and(begins_with_item)
    }

    /// Reads the texts that are JSON in their places.
    fn parse_texts(&self, tape: &mut Tape<'_>, root: usize) -> Result<()> {
        for path in &self.parsed {
            let Some(Place { value, .. }) = lookup::find(tape, root, &path.segments) else { continue };
            let Some(text) = tape.text(value) else { continue };
            let inner = json::tape::read_one(text.as_bytes(), self.reader.nan).map_err(|reason| {
                Box::new(Reason { message: format!("{path}: {}", reason.message).into(), ..*reason })
            })?;
            tape.replace(value, inner.into_owned());
        }
        Ok(())
    }

    /// The first of a column's paths that leads to a value that is there.
    fn find(
        &self,
        tape: &Tape<'_>,
        root: usize,
        row: &RowPlace,
        zipped: &[usize],
        column: &ColumnPlan,
    ) -> Option<Place> {
        let is_there =
            |place: &Place| column.reading.is_key || !matches!(tape.value(place.value), Value::Null);
        column.paths.iter().find_map(|path| {
            let segments = path.segments.as_slice();
            if let (Some(Segment::Field(name)), true) = (segments.first(), path.root != Root::Document)
                && let Some(list) = self.zip.iter().position(|(zip, _)| zip == name)
            {
                return lookup::find(tape, *zipped.get(list)?, &segments[1..]).filter(is_there);
            }
            let mut places = Vec::new();
            if path.root != Root::Document {
                places.push(row.item);
            }
            if path.root == Root::Either {
                places.extend(row.around.iter().rev());
            }
            if path.root != Root::Element {
                places.push(root);
            }
            if column.reading.is_key && segments.is_empty() {
                return Some(Place { value: row.item, key: Some(row.key?) });
            }
            places.iter().find_map(|at| lookup::find(tape, *at, segments).filter(is_there))
        })
    }
}

/// The message types of a schema, and the place of the one that payloads are.
fn descriptors(path: &str, protobuf: &Protobuf) -> crate::core::error::Result<(Descriptors, usize)> {
    let descriptors = Descriptors::read(&protobuf.schema)
        .map_err(|reason| Error::config(format!("{path}.format.schema"), &*reason.message))?;
    let place = descriptors.message(&protobuf.message).ok_or_else(|| {
        let message = format!("the schema has no message {}", protobuf.message);
        Error::config(format!("{path}.format.message"), message)
    })?;
    Ok((descriptors, place))
}

/// A column `n.a` of a Nested `n` for which the route gives another path: the list of objects there.
fn nested_part(route: &Route, binding: &ColumnBinding, path: &Path) -> (Path, Option<String>) {
    let is_given = route.columns.iter().any(|(name, _)| *name == binding.name);
    match (is_given, path.segments.split_last()) {
        (false, Some((Segment::Field(part), list))) if !list.is_empty() => {
            (Path { root: path.root, segments: list.to_vec() }, Some(part.clone()))
        }
        _ => (path.clone(), None),
    }
}

impl Decoder {
    /// The rows of a payload's documents.
    pub(super) fn append_documents(
        &mut self,
        plan: &DocumentPlan,
        message: &Message<'_>,
        columns: &mut [Column],
    ) -> Result<usize> {
        if plan.reader.format == Format::Rows {
            return self.append_rows(plan, message, columns).map_err(|error| error.reason());
        }
        let mut rows = Rows::default();
        let format::Documents { mut tape, roots } = plan.reader.read(message)?;
        // From the last one on: what is put in the place of a text moves what follows it.
        if !plan.parsed.is_empty() {
            let [root] = roots[..] else {
                return Err(Box::new(Reason::new(
                    Code::JsonInvalid,
                    "a payload of several documents cannot have texts that are JSON",
                )));
            };
            plan.parse_texts(&mut tape, root)?;
        }
        for root in roots {
            if matches!(tape.value(root), Value::List { .. }) && !plan.takes_lists() {
                for item in tape.items(root) {
                    self.tape_document(plan, &tape, item, message, columns, &mut rows)?;
                }
            } else {
                self.tape_document(plan, &tape, root, message, columns, &mut rows)?;
            }
        }
        Ok(rows.count)
    }

    pub(super) fn tape_document(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        root: usize,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<()> {
        let is_wanted = match tape.value(root) {
            Value::Object { .. } => true,
            Value::List { .. } => plan.takes_lists(),
            _ => plan.has_whole(),
        };
        if !is_wanted {
            let message = "the payload is not an object, nor a list of objects";
            return Err(Box::new(Reason::new(Code::NotAnObject, message)));
        }
        if let Some(known) = &plan.known {
            known.check(tape, root)?;
        }
        if !plan.zip.is_empty() {
            return self.zipped_rows(plan, tape, root, message, columns, rows);
        }
        let places = match &plan.rows {
            None => vec![RowPlace { item: root, ..RowPlace::default() }],
            Some(path) => match lookup::rows(tape, root, &path.segments) {
                Some(places) => places,
                None => {
                    let is_there = path.is_simple() && lookup::find(tape, root, &path.segments).is_some();
                    return Err(no_list(is_there, "the list"));
                }
            },
        };
        places
            .iter()
            .try_for_each(|place| self.tape_row(plan, tape, root, place, &[], message, columns, rows))
    }

    /// A row per index of lists that lie side by side.
    fn zipped_rows(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        root: usize,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<()> {
        let mut lists: Vec<Vec<usize>> = Vec::with_capacity(plan.zip.len());
        for (name, path) in &plan.zip {
            let place = lookup::find(tape, root, &path.segments).map(|place| place.value);
            match place {
                Some(at) if matches!(tape.value(at), Value::List { .. }) => {
                    lists.push(tape.items(at).collect())
                }
                place => return Err(no_list(place.is_some(), name)),
            }
            let count = lists[0].len();
            if let Some(other) = lists.last().filter(|list| list.len() != count) {
                let message =
                    format!("rows: {name} has {} items, and {} has {count}", other.len(), plan.zip[0].0);
                return Err(Box::new(Reason::new(Code::TypeMismatch, message)));
            }
        }
        let row = RowPlace { item: root, ..RowPlace::default() };
        for index in 0..lists[0].len() {
            let zipped: Vec<usize> = lists.iter().map(|list| list[index]).collect();
            self.tape_row(plan, tape, root, &row, &zipped, message, columns, rows)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "one call of its own for each row")]
    fn tape_row(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        root: usize,
        row: &RowPlace,
        zipped: &[usize],
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<()> {
        self.begin_row(columns, message.payload, rows)?;
        for column in &plan.columns {
            if let Some(place) = plan.find(tape, root, row, zipped, column) {
                self.tape_value(plan, tape, place, column, &mut columns[column.binding])
                    .map_err(|reason| self.about(column.binding, reason))?;
            }
        }
        self.finish(message, columns)
    }

    fn tape_value(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        place: Place,
        plan_of_column: &ColumnPlan,
        column: &mut Column,
    ) -> Result<()> {
        let ColumnPlan { binding: at, part, reading, reads_digits, .. } = plan_of_column;
        let Scratch { filled, context, cut, .. } = &mut self.row;
        let binding = &self.bindings[*at];
        context.unit = binding.unit;
        if let Some(part) = part {
            if nested_values(tape, place.value, part, binding, column, context)? {
                filled.add(*at);
            }
        } else {
            let from = if reading.is_key { place.key.unwrap_or(place.value) } else { place.value };
            let mut other = match transform(tape, from, reading, &plan.nulls)? {
                Transformed::Missing => return Ok(()),
                Transformed::Same => None,
                Transformed::Other(other) => Some(other),
            };
            if let (Value::Named { name, number }, None) = (tape.value(from), &other)
                && wants_number(&binding.column_type.kind, name)
            {
                other = Some(Tape::of(Value::Integer((*number).into()))?);
            }
            if *reads_digits && other.is_none() {
                other = number_of_digits(tape, from)?;
            }
            let is_filled = match &other {
                Some(other) => value::read(&mut other.reader(0), &binding.column_type, column, context)?,
                None => value::read(&mut tape.reader(from), &binding.column_type, column, context)?,
            };
            if is_filled {
                filled.add(*at);
            }
        }
        if std::mem::take(&mut context.was_truncated) {
            cut.push(*at);
        }
        Ok(())
    }
}

/// Whether a column takes the number of a name, and not the name.
fn wants_number(kind: &Kind, name: &str) -> bool {
    match kind {
        Kind::Int { .. } | Kind::Float32 | Kind::Float64 | Kind::BFloat16 | Kind::Decimal { .. } => true,
        Kind::Enum8(names) | Kind::Enum16(names) => names.number(name).is_none(),
        _ => false,
    }
}

/// A text that is a number in digits, as such.
fn number_of_digits(tape: &Tape<'_>, at: usize) -> Result<Option<Tape<'static>>> {
    let Some(text) = tape.text(at) else { return Ok(None) };
    match json::tape::read_one(text.as_bytes(), Nan::Reject) {
        Ok(number) if matches!(number.value(0), Value::Number(_)) => Ok(Some(number.into_owned())),
        _ => Ok(None),
    }
}

/// A member of each object of a list, or a list by itself, into a column of a Nested; `false`: it is not there.
fn nested_values(
    tape: &Tape<'_>,
    at: usize,
    part: &str,
    binding: &ColumnBinding,
    column: &mut Column,
    context: &mut value::DecodeContext,
) -> Result<bool> {
    match tape.value(at) {
        Value::Object { .. } => match tape.member(at, part) {
            Some(list) => value::read(&mut tape.reader(list), &binding.column_type, column, context),
            None => Ok(false),
        },
        Value::List { .. } => {
            let (Kind::Array(item_type), Column::Array { items, .. }) =
                (&binding.column_type.kind, &mut *column)
            else {
                return Ok(false);
            };
            let mut is_nested = false;
            for item in tape.items(at) {
                is_nested |= matches!(tape.value(item), Value::Object { .. });
                if !matches!(tape.value(item), Value::Object { .. }) {
                    if is_nested {
                        return Err(does_not_fit(tape.reader(item).shape()?));
                    }
                    break;
                }
                let mut there = tape.member(item, part).map(|place| tape.reader(place));
                value::read_part(there.as_mut(), item_type, items, context)?;
            }
            if !is_nested && tape.items(at).next().is_some() {
                return value::read(&mut tape.reader(at), &binding.column_type, column, context);
            }
            column.push_offset();
            Ok(true)
        }
        _ => Err(does_not_fit(Shape::Text)),
    }
}

#[cold]
fn no_list(is_there: bool, what: &str) -> Box<Reason> {
    Box::new(match is_there {
        true => Reason::new(Code::TypeMismatch, "rows: what stands there is not a list"),
        false => Reason::new(Code::FieldMissing, format!("rows: {what} is missing")),
    })
}
