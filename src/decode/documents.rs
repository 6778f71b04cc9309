//! Rows from documents on a tape: for formats other than JSON, and for what a walk over JSON cannot give: any key, the end of a
//! list, one of several paths, rows within rows, and values that are something else first.

use crate::clickhouse::{Column, Kind};
use crate::config::{ColumnSource, Format, Nan, Parse, Protobuf, Reading, Route};
use crate::core::error::Error;
use crate::core::json_path::{Path, Root, Segment};
use crate::core::reason::{Code, Reason};
use crate::decode::condition::{Fields, Filter, scalar};
use crate::decode::format::{self, Descriptors, FormatReader, json};
use crate::decode::known_fields::KnownFields;
use crate::decode::lookup::{self, Place, RowPlace};
use crate::decode::lookup_column;
use crate::decode::parts;
use crate::decode::scalar_paths;
use crate::decode::tape::{Tape, Value};
use crate::decode::value_reader::{Result, Token};
use crate::decode::{ColumnBinding, Decoder, Message, Rows, ValueSource};

/// How a route reads documents from a tape.
#[derive(Debug)]
pub struct DocumentPlan {
    pub reader: FormatReader,
    pub nulls: Vec<String>,
    pub rows: Option<Path>,
    /// Lists side by side, by the names of their items.
    pub zip: Vec<(String, Path)>,
    columns: Vec<ColumnPlan>,
    /// Where the texts are that are JSON.
    parsed: Vec<Path>,
    /// The place among the names of the topic of the one that says which field the payload is.
    name: Option<usize>,
    /// Where unknown fields are refused.
    known: Option<KnownFields>,
}

/// Where a column's value is, and what is made of it.
#[derive(Debug)]
pub struct ColumnPlan {
    pub binding: usize,
    paths: Vec<Path>,
    /// The path leads to the list of a Nested, and the column takes this member of its objects.
    pub part: Option<String>,
    pub reading: Reading,
    /// Digits in a text are a number for it, where the format has nothing but texts.
    pub reads_digits: bool,
}

impl DocumentPlan {
    /// `None`: a walk over the JSON does.
    /// `path` is that of the route, for errors.
    pub fn of(
        path: &str,
        route: &Route,
        bindings: &[ColumnBinding],
        filter: Option<&mut Filter>,
    ) -> crate::core::error::Result<Option<DocumentPlan>> {
        let is_simple = |path: &Path| path.is_simple();
        let is_walk = route.format == Format::Json
            && parts::name_of(route).is_none()
            && route.nan == Nan::Reject
            && route.nulls.is_empty()
            && route.zip.is_empty()
            // A walk does not know of the rows while it is around them.
            && (route.rows.is_none() || route.condition.is_none())
            && route.rows.as_ref().is_none_or(is_simple)
            && route.sources().all(|(_, source)| match source {
                ColumnSource::Path { path, reading, .. } => {
                    path.is_simple() && *reading == Reading::default()
                }
                source => lookup_column::key_path(source).is_none_or(is_simple),
            });
        if is_walk {
            return Ok(None);
        }
        DocumentPlan::on_tape(path, route, bindings, filter).map(Some)
    }

    /// Reads rows for which no columns are known.
    pub fn without_columns(path: &str, route: &Route) -> crate::core::error::Result<DocumentPlan> {
        DocumentPlan::on_tape(path, route, &[], None)
    }

    fn on_tape(
        path: &str,
        route: &Route,
        bindings: &[ColumnBinding],
        mut filter: Option<&mut Filter>,
    ) -> crate::core::error::Result<DocumentPlan> {
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
                    ValueSource::Key { path } => (path.clone(), None),
                    ValueSource::Document => (Path { root: Root::Document, segments: Vec::new() }, None),
                    _ => return None,
                };
                let reading = match route.source_of(&binding.name) {
                    Some(ColumnSource::Path { reading, .. }) => reading.clone(),
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
            name: parts::name_of(route),
            reader: FormatReader {
                format: route.format.clone(),
                nan: route.nan,
                descriptors,
                edge_nodes: route.edge_nodes.clone(),
                keeps_unknown: route.reject_unknown_fields,
                max_bytes: route.max_payload_bytes,
                max_decoded_bytes: route.max_decoded_bytes,
            },
            nulls: route.nulls.clone(),
            rows: route.rows.clone(),
            zip: route.zip.clone(),
            columns,
            parsed,
            known: None,
        };
        plan.name_fields(filter.as_deref_mut());
        if route.reject_unknown_fields {
            let filtered = filter.as_deref().map(Filter::paths).unwrap_or_default();
            plan.known = Some(plan.known_fields(bindings, &filtered));
        }
        Ok(plan)
    }

    /// Fields of Protocol Buffers may be called as they are in JSON.
    fn name_fields(&mut self, filter: Option<&mut Filter>) {
        let Some((descriptors, _)) = &self.reader.descriptors else { return };
        if let Some(filter) = filter {
            filter.rename_fields(|name| descriptors.proto_name(name));
        }
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
        for part in self.columns.iter_mut().filter_map(|column| column.part.as_mut()) {
            if let Some(proto_name) = descriptors.proto_name(part) {
                *part = proto_name.into();
            }
        }
    }

    /// `filtered` are the fields that the condition asks for.
    fn known_fields(&self, bindings: &[ColumnBinding], filtered: &[&Path]) -> KnownFields {
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
        filtered.iter().for_each(|path| add(path));
        // A field that bears a column's name is known, even where the column is filled from elsewhere.
        bindings.iter().for_each(|binding| add(&Path::field(&binding.name)));
        self.zip.iter().for_each(|(_, path)| add(path));
        known.add_way(levels);
        known
    }

    fn has_document(&self) -> bool {
        self.columns.iter().any(|column| column.paths.iter().any(|path| path.segments.is_empty()))
    }

    /// Whether a list at the root of the payload is wanted as such.
    pub fn takes_lists(&self) -> bool {
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
        paths: &[Path],
        is_key: bool,
    ) -> Option<Place> {
        let is_there = |place: &Place| is_key || !matches!(tape.value(place.value), Value::Null);
        paths.iter().find_map(|path| {
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
            if is_key && segments.is_empty() {
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
    let is_given = route.source_of(&binding.name).is_some();
    match (is_given, path.segments.split_last()) {
        (false, Some((Segment::Field(part), list))) if !list.is_empty() => {
            (Path { root: path.root, segments: list.to_vec() }, Some(part.clone()))
        }
        _ => (path.clone(), None),
    }
}

/// The fields of a row; or of a document, where no row is chosen yet.
struct TapeFields<'t> {
    plan: &'t DocumentPlan,
    tape: &'t Tape<'t>,
    root: usize,
    /// With the items of the lists that are zipped.
    row: Option<(&'t RowPlace, &'t [usize])>,
}

impl Fields for TapeFields<'_> {
    fn check(&mut self, paths: &[Path], check: &dyn Fn(&Token<'_>) -> bool) -> Result<Option<bool>> {
        let TapeFields { plan, tape, root, row } = *self;
        let whole = RowPlace { item: root, ..RowPlace::default() };
        let (row, zipped) = match row {
            Some(row) => row,
            None if paths.iter().all(|path| path.root == Root::Document) => (&whole, &[][..]),
            None => return Ok(None),
        };
        let token = match plan.find(tape, root, row, zipped, paths, false) {
            Some(place) => scalar(&mut tape.reader(place.value))?,
            None => Token::Null,
        };
        Ok(Some(check(&token)))
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
        let mut rows = Rows { count: 0, limit: None, max_bytes: self.max_row_bytes };
        let documents = plan.reader.read(message)?;
        let format::Documents { mut tape, roots } = match plan.name {
            Some(name) => parts::named(documents, message.captures.get(name, message.topic))?,
            None => documents,
        };
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
            _ => plan.has_document(),
        };
        if !is_wanted {
            let message = "the payload is not an object, nor a list of objects";
            return Err(Box::new(Reason::new(Code::NotAnObject, message)));
        }
        let whole = RowPlace { item: root, ..RowPlace::default() };
        let has_lists = plan.rows.is_some() || !plan.zip.is_empty();
        let wanted = match &self.filter {
            None => Some(true),
            Some(filter) => {
                let row = (!has_lists).then_some((&whole, &[][..]));
                filter.holds(message, &mut TapeFields { plan, tape, root, row })?
            }
        };
        if wanted == Some(false) {
            self.row.has_excluded = true;
            return Ok(());
        }
        if let Some(known) = &plan.known {
            known.check(tape, root)?;
        }
        if !plan.zip.is_empty() {
            return self.zipped_rows(plan, tape, root, wanted, message, columns, rows);
        }
        let places = match &plan.rows {
            None => vec![whole],
            Some(path) => match lookup::rows(tape, root, &path.segments) {
                Some(places) => places,
                // Where there is no list, the document by itself may say that it is not wanted.
                None if self.excludes(plan, tape, root, &whole, &[], wanted, message)? => return Ok(()),
                None => {
                    let is_there = path.is_simple() && lookup::find(tape, root, &path.segments).is_some();
                    return Err(lookup::no_list(is_there, "the list"));
                }
            },
        };
        for place in &places {
            if !self.excludes(plan, tape, root, place, &[], wanted, message)? {
                self.tape_row(plan, tape, root, place, &[], message, columns, rows)?;
            }
        }
        Ok(())
    }

    /// Whether a row is not wanted, where the document around it has not decided that.
    #[allow(clippy::too_many_arguments, reason = "one call of its own for each row")]
    #[inline]
    fn excludes(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        root: usize,
        row: &RowPlace,
        zipped: &[usize],
        wanted: Option<bool>,
        message: &Message<'_>,
    ) -> Result<bool> {
        let Some(filter) = self.filter.as_ref().filter(|_| wanted.is_none()) else { return Ok(false) };
        let fields = &mut TapeFields { plan, tape, root, row: Some((row, zipped)) };
        let excludes = filter.holds(message, fields)? == Some(false);
        self.row.has_excluded |= excludes;
        Ok(excludes)
    }

    /// A row per index of lists that lie side by side.
    #[allow(clippy::too_many_arguments, reason = "what a document is, and what is known of it")]
    fn zipped_rows(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        root: usize,
        wanted: Option<bool>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<()> {
        let row = RowPlace { item: root, ..RowPlace::default() };
        let lists = match lookup::side_by_side(tape, root, &plan.zip) {
            Ok(lists) => lists,
            // Where a list is missing, the document by itself may say that it is not wanted.
            Err(_) if self.excludes(plan, tape, root, &row, &[], wanted, message)? => return Ok(()),
            Err(reason) => return Err(reason),
        };
        for index in 0..lists[0].len() {
            let zipped: Vec<usize> = lists.iter().map(|list| list[index]).collect();
            if !self.excludes(plan, tape, root, &row, &zipped, wanted, message)? {
                self.tape_row(plan, tape, root, &row, &zipped, message, columns, rows)?;
            }
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
            let ColumnPlan { paths, reading, .. } = column;
            if let Some(place) = plan.find(tape, root, row, zipped, paths, reading.is_key) {
                self.tape_value(plan, tape, place, column, &mut columns[column.binding])
                    .map_err(|reason| self.about(column.binding, reason))?;
            } else if self.row.scalars.wants(column.binding)
                && [row.item, root].iter().any(|at| scalar_paths::lead_through_scalar(tape, *at, paths))
            {
                self.row.scalars.meet(column.binding);
            }
        }
        self.finish(message, columns)
    }
}
