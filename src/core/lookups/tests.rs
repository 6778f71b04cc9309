use super::*;

fn budget() -> Arc<MemoryBudget> {
    Arc::new(MemoryBudget::new(1 << 20))
}

fn text(lookup: &Lookup, key: &str, field: usize) -> Option<String> {
    let map = lookup.map();
    let value = map.value(map.find(key.as_bytes())?, field)?;
    if let LookupValue::Plain(text, json) = value {
        assert_eq!(&json[1..json.len() - 2], text);
    }
    Some(String::from_utf8_lossy(value.json()).into_owned())
}

#[test]
fn a_map_has_the_fields_that_are_asked_for() {
    let lookups = Lookups::default();
    let (lookup, tenant) = lookups.ask("devices", Some("tenant"));
    let (_, limit) = lookups.ask("devices", Some("limit"));
    let (_, whole) = lookups.ask("devices", None);
    assert_eq!((tenant, limit, whole, lookup.is_set()), (0, 1, 2, false));
    assert_eq!(text(&lookup, "a", tenant), None);
    let entries =
        r#"{"a":{"tenant":"ac\"me","limit":18446744073709551616,"x":1},"b":{"limit":null},"c":7.50}"#;
    lookups.set("devices", "map", entries, &budget()).unwrap();
    assert_eq!(text(&lookup, "a", tenant).as_deref(), Some("\"ac\\\"me\" "));
    assert_eq!(text(&lookup, "a", limit).as_deref(), Some("18446744073709551616 "));
    assert_eq!(text(&lookup, "a", whole), None);
    assert_eq!((text(&lookup, "b", tenant), text(&lookup, "b", limit)), (None, None));
    assert_eq!(text(&lookup, "c", whole).as_deref(), Some("7.50 "));
    assert_eq!((text(&lookup, "c", tenant), text(&lookup, "d", whole)), (None, None));
    assert_eq!((lookup.map().len(), lookup.generation()), (3, 1));
    // A column that asks later finds it in the next map.
    let (_, x) = lookups.ask("devices", Some("x"));
    assert_eq!(text(&lookup, "a", x), None);
    lookups.set("devices", "map", entries, &budget()).unwrap();
    assert_eq!(text(&lookup, "a", x).as_deref(), Some("1 "));
}

#[test]
fn a_field_that_no_entry_has_is_reported() {
    let lookups = Lookups::default();
    let (lookup, _) = lookups.ask("devices", Some("tennant"));
    lookups.set("devices", "map", "{}", &budget()).unwrap();
    assert!(lookup.map().absent().is_empty());
    lookups.set("devices", "map", r#"{"a":{"tenant":"acme"}}"#, &budget()).unwrap();
    assert_eq!(lookup.map().absent(), ["tennant"]);
}

#[test]
fn anything_but_a_map_is_refused_and_changes_nothing() {
    let lookups = Lookups::default();
    let (lookup, _) = lookups.ask("devices", None);
    lookups.set("devices", "map", r#"{"a":1}"#, &budget()).unwrap();
    for (entries, path, message) in [
        ("[]", "map", "must be an object"),
        ("{", "map", "is not JSON: EOF while parsing an object at line 1 column 1"),
        (r#"{"a":[1]}"#, "map[\"a\"]", "must be a text, a number, a boolean or null"),
        (r#"{"a":{"b":{}}}"#, "map[\"a\"].b", "must be a text, a number, a boolean or null"),
        (r#"{"a":"\ud800"}"#, "map[\"a\"]", "is not a text"),
    ] {
        let error = lookups.set("devices", "map", entries, &budget()).unwrap_err();
        assert_eq!((error.code(), error.path()), ("CONFIG_INVALID", Some(path)), "{error}");
        assert!(error.to_string().starts_with(&format!("{path}: {message}")), "{error}");
    }
    let error = lookups.set("device", "map", "{}", &budget()).unwrap_err();
    assert_eq!((error.code(), error.path()), ("CONFIG_INVALID", Some("name")));
    assert_eq!((text(&lookup, "a", 0).as_deref(), lookup.generation()), (Some("1 "), 1));
}

#[test]
fn all_maps_together_take_a_quarter_of_the_ceiling() {
    let budget = budget();
    let lookups = Lookups::default();
    lookups.ask("one", None);
    lookups.ask("other", None);
    let entries = |count: usize| {
        let entries: Vec<String> = (0..count).map(|at| format!("\"{at}\":\"{}\"", "x".repeat(100))).collect();
        format!("{{{}}}", entries.join(","))
    };
    lookups.set("one", "map", &entries(1000), &budget).unwrap();
    let used = budget.used();
    assert!((100_000..200_000).contains(&used), "{used}");
    let error = lookups.set("other", "map", &entries(1000), &budget).unwrap_err();
    assert_eq!(error.code(), "LOOKUP_TOO_LARGE");
    assert_eq!(budget.used(), used);
    // A new map takes the place of the old one.
    lookups.set("one", "map", &entries(500), &budget).unwrap();
    assert!(budget.used() < used);
    lookups.set("other", "map", &entries(500), &budget).unwrap();
    assert!(lookups.set("other", "map", &entries(2000), &budget).is_err());
}
