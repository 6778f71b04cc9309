//! Every `crate::…` path in src/ is an import that the table "Layers" of ARCHITECTURE.md allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The table: for each layer the layers that it may import.
fn layers() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("\n## Layers\n").expect("a section \"Layers\"");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(names);
        let mut layer = cells.next().unwrap_or_default();
        assert_eq!(layer.len(), 1, "a row names one layer: {row}");
        (layer.pop_first().unwrap(), cells.next().unwrap_or_default())
    })
    .collect()
}

/// The words between backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => rust_files(&path, files),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
}

/// The first segments of all paths that begin with `crate::`, in the code of a file: `crate::a::b` and `crate::{a, b::c}`.
fn imports(code: &str) -> BTreeSet<String> {
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or("").to_string() + "\n").collect();
    let mut found = BTreeSet::new();
    let mut rest = code.as_str();
    while let Some((before, after)) = rest.split_once("crate::") {
        rest = after;
        // `$crate::` is ours too; `my_crate::` is not.
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        match after.strip_prefix('{') {
            None => found.extend(first_segment(after)),
            Some(group) => found.extend(group_members(group).into_iter().filter_map(first_segment)),
        }
    }
    found
}

fn first_segment(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    Some(path[..end].to_string()).filter(|segment| !segment.is_empty())
}

/// The members of `{…}`, whose opening brace is taken, without what stands in braces inside of them.
fn group_members(group: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[begin..at]);
                begin = at + 1;
            }
            '}' => {
                members.push(&group[begin..at]);
                break;
            }
            _ => {}
        }
    }
    members
}

#[test]
fn paths_are_found() {
    let code = "use crate::core::error::Error; // crate::nothing\nuse crate::{config, mqtt::{a, b}, spool};\nlet x = crate::sink::f();\nmy_crate::y();";
    let expected = ["config", "core", "mqtt", "sink", "spool"].map(String::from);
    assert_eq!(imports(code), BTreeSet::from(expected));
}

#[test]
fn layers_import_what_the_table_allows() {
    let layers = layers();
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let mut forbidden: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut folders = BTreeSet::new();
    for file in &files {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let (Some(layer), Some(_)) = (parts.next(), parts.next()) else {
            assert_eq!(inside, Path::new("lib.rs"), "src/ holds lib.rs and folders");
            continue;
        };
        folders.insert(layer.clone());
        let allowed = layers.get(&layer).unwrap_or_else(|| panic!("{layer} is not in the table"));
        for import in imports(&fs::read_to_string(file).unwrap()) {
            if import != layer && !allowed.contains(&import) {
                forbidden.entry((layer.clone(), import)).or_default().push(inside.display().to_string());
            }
        }
    }
    assert_eq!(folders, layers.keys().cloned().collect(), "the folders of src/ are the layers of the table");
    assert!(forbidden.is_empty(), "imports that ARCHITECTURE.md does not allow: {forbidden:#?}");
}

#[test]
fn the_table_has_no_circle() {
    let mut layers = layers();
    while !layers.is_empty() {
        let leaf =
            layers.iter().find(|(_, imports)| imports.iter().all(|import| !layers.contains_key(import)));
        let leaf = leaf.map(|(layer, _)| layer.clone());
        let leaf = leaf.unwrap_or_else(|| panic!("these layers import each other in a circle: {layers:#?}"));
        layers.remove(&leaf);
    }
}
