//! Every kind of option that the table can have, also those that no option has yet.

use super::*;
use crate::config::option::{REQUIRED, TEXT, choice, integer, object, row};
use serde_json::json;

static FILE: Object = Object {
    name: None,
    about: "A file that holds it.",
    includes: &[],
    rows: &[row("file", TEXT, REQUIRED, "The path.")],
    rules: "{}",
};

static CSV: Object = Object {
    name: None,
    about: "",
    includes: &[],
    rows: &[
        row("type", choice(&["csv"]), REQUIRED, ""),
        row("header", Kind::Flag, DefaultValue::Flag(false), ""),
    ],
    rules: "{}",
};

static PROTOBUF: Object = Object {
    name: None,
    about: "",
    includes: &[],
    rows: &[row("type", choice(&["protobuf"]), REQUIRED, ""), row("message", TEXT, REQUIRED, "")],
    rules: "{}",
};

/// Options of several kinds, as the table can have them.
static SEVERAL: Object = Object {
    name: None,
    about: "",
    includes: &[],
    rows: &[
        row("wait", Kind::Union { of: &[integer(0, 9), choice(&["auto"])] }, DefaultValue::Text("auto"), ""),
        row(
            "secret",
            Kind::Named {
                name: "Secret",
                about: "",
                of: &Kind::Union {
                    of: &[
                        TEXT,
                        Kind::Code { typescript: "() => string", phrase: "a function" },
                        object(&FILE),
                    ],
                },
            },
            DefaultValue::Absent,
            "",
        ),
        row(
            "format",
            Kind::Union { of: &[choice(&["json"]), object(&CSV), object(&PROTOBUF)] },
            DefaultValue::Text("json"),
            "",
        ),
        row("emits", Kind::List { item: &TEXT }, DefaultValue::Absent, ""),
        row("made", Kind::Code { typescript: "Maker", phrase: "a Maker" }, DefaultValue::Absent, ""),
    ],
    rules: "{}",
};

fn take<'a>(value: &'a Value, name: &str) -> Result<Option<Taken<'a>>> {
    ObjectReader::at("o", value, &SEVERAL)?.take(name)
}

#[test]
fn an_option_of_several_kinds_is_read_by_the_one_that_takes_it() {
    assert!(matches!(take(&json!({ "wait": 3 }), "wait"), Ok(Some(Taken::Integer(3)))));
    assert!(matches!(take(&json!({ "wait": "auto" }), "wait"), Ok(Some(Taken::Word("auto")))));
    assert!(matches!(take(&json!({}), "wait"), Ok(None)));
    assert!(matches!(take(&json!({ "secret": "s" }), "secret"), Ok(Some(Taken::Text(text))) if text == "s"));
    let value = json!({ "secret": { "file": "f" } });
    let Ok(Some(Taken::Object("file", file))) = take(&value, "secret") else { panic!("not a file") };
    assert_eq!(file.required_text("file").unwrap(), "f");
}

#[test]
fn a_value_of_no_kind_is_refused_and_all_kinds_are_named() {
    let message = |value: Value, name| take(&value, name).err().unwrap().to_string();
    assert_eq!(
        message(json!({ "wait": 10 }), "wait"),
        "o.wait: must be an integer from 0 to 9 or 'auto', not 10"
    );
    assert_eq!(
        message(json!({ "secret": 1 }), "secret"),
        "o.secret: must be a string or a function or { file }, not 1"
    );
    let value = json!({ "secret": { "flie": "f" } });
    let Ok(Some(Taken::Object(_, file))) = take(&value, "secret") else { panic!("not a file") };
    assert_eq!(file.required_text("file").unwrap_err().to_string(), "o.secret.file: is required");
    assert_eq!(file.finish().unwrap_err().to_string(), "o.secret.flie: is not an option; did you mean file?");
}

#[test]
fn a_word_selects_the_object_of_a_union() {
    let value = json!({ "format": { "type": "protobuf", "message": "m" } });
    let Ok(Some(Taken::Object("type", format))) = take(&value, "format") else { panic!("not an object") };
    assert_eq!(format.required_text("message").unwrap(), "m");
    assert_eq!(
        take(&json!({ "format": { "type": "xml" } }), "format").err().unwrap().to_string(),
        "o.format: must be 'json' or { type, header } or { type, message }, not {\"type\":\"xml\"}"
    );
}

#[test]
fn a_list_of_texts_is_a_list() {
    let emits =
        |value: Value| ObjectReader::at("o", &json!({ "emits": value }), &SEVERAL).unwrap().texts("emits");
    assert_eq!(emits(json!(["a"])).unwrap(), [("o.emits[0]".to_string(), "a".to_string())]);
    assert_eq!(
        emits(json!("a")).unwrap_err().to_string(),
        "o.emits: must be a list of strings, not a string"
    );
    assert_eq!(emits(json!([])).unwrap_err().to_string(), "o.emits: must not be an empty list");
}

#[test]
fn the_engine_does_not_know_options_that_only_a_program_can_give() {
    let value = json!({ "made": {} });
    let reader = ObjectReader::at("o", &value, &SEVERAL).unwrap();
    assert_eq!(reader.finish().unwrap_err().path(), Some("o.made"));
}

#[test]
fn a_reader_that_the_table_contradicts_is_a_fault_of_millrace() {
    let value = json!({ "wait": 3 });
    let reader = ObjectReader::at("o", &value, &SEVERAL).unwrap();
    assert_eq!(reader.text("wait").unwrap_err().code(), "INTERNAL");
    assert_eq!(reader.take("nothing").err().unwrap().code(), "INTERNAL");
    assert_eq!(reader.integer_or_default("secret").unwrap_err().code(), "INTERNAL");
}
