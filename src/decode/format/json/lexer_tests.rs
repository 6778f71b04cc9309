//! JSON as RFC 8259 has it, and what comes near it.

use super::*;

fn text(json: &str) -> Option<String> {
    let mut reader = Reader::new(json.as_bytes());
    match reader.token() {
        Ok(Token::Text(text)) if reader.at == json.len() => Some(text.into()),
        _ => None,
    }
}

#[test]
fn strings_are_read() {
    for (json, expected) in [
        (r#""""#, ""),
        (r#""abc""#, "abc"),
        (r#""abcdefghijklmnop""#, "abcdefghijklmnop"),
        (r#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz"),
        (r#""\u00e9\ud83d\ude9a \u0000""#, "é🚚 \0"),
        (r#""ünïcödé 🚚 and more""#, "ünïcödé 🚚 and more"),
    ] {
        assert_eq!(text(json).as_deref(), Some(expected), "{json}");
    }
    for json in [
        r#"""#,
        r#""abc"#,
        r#""\x""#,
        r#""\u12""#,
        r#""\ud800""#,
        r#""\ud800\u0041""#,
        r#""\udc00""#,
        "\"\n\"",
    ] {
        assert_eq!(text(json), None, "{json}");
    }
    assert!(Reader::new(b"\"\xff\"").token().is_err());
    assert!(Reader::new(b"\"plain then \xc3\"").token().is_err());
}

#[test]
fn runs_end_where_attention_is_needed() {
    for len in 0..40 {
        for stop in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for (fill, is_ascii) in [(b'a', true), (b' ', true), (0x7f, true), (0xc3, false), (0xff, false)] {
                let mut bytes = vec![fill; len];
                bytes.push(stop);
                bytes.extend_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\"\"");
                assert_eq!(plain_run(&bytes, 0), (len, is_ascii || len == 0), "{bytes:?}");
            }
        }
    }
}

#[test]
fn skipped_values_are_checked() {
    let skip = |json: &str| {
        let mut reader = Reader::new(json.as_bytes());
        reader.skip().is_ok() && !reader.next_document().unwrap_or(true)
    };
    for json in ["{}", "[]", r#"{"a":[1,2,{"b":null}],"c":"\ud800"}"#, " [ 1 , true ] ", "-0.5e-3", "0"] {
        assert!(skip(json), "{json}");
    }
    for json in [
        "",
        "{",
        "[1",
        "[1,]",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "nul",
        "tru",
        "[1 2]",
        "{} 1",
        "NaN",
        "'a'",
    ] {
        assert!(!skip(json), "{json}");
    }
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(skip(&nested(128)) && !skip(&nested(129)));
}
