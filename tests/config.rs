//! The options: every mistake is an error with its path, and nothing panics.

use millrace::config::Config;
use millrace::config::option::{Kind, Object};
use millrace::config::schema::PIPELINE;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every option with a value that is right.
fn full() -> Value {
    json!({
        "name": "fleet",
        "mqtt": {
            "url": ["mqtt://one", "mqtts://[::1]:1884/", "wss://two/mqtt?a=b"],
            "clientId": "fleet-1",
            "username": "user",
            "password": "secret",
            "protocolVersion": 4,
            "qos": 0,
            "sharedGroup": "group",
            "connections": 4,
            "sessionExpirySeconds": 60,
            "keepAliveSeconds": 10,
            "receiveMaximum": 20,
            "topicAliasMaximum": 10,
            "maxPacketBytes": 4096,
            "coalesceMs": 0,
            "ackAfter": "receive",
            "retained": "skip",
            "topicRewrite": "rabbitmq",
            "unsubscribe": ["old/#"],
            "filtersPerSubscribe": 8,
            "reconnect": { "minMs": 10, "maxMs": 20 },
            "tls": { "ca": "ca.pem", "cert": "c.pem", "key": "k.pem", "serverName": "one", "insecure": false, "alpn": ["mqtt"] },
        },
        "clickhouse": {
            "url": ["http://one:8123", "https://two:8443"],
            "database": "fleet",
            "username": "user",
            "password": "secret",
            "compression": "zstd",
            "settings": { "max_threads": 2 },
            "maxInFlight": 4,
            "connectTimeoutMs": 100,
            "requestTimeoutMs": 200,
            "retry": { "minMs": 10, "maxMs": 20, "maxAgeMs": 60000 },
            "tls": { "ca": "ca.pem", "cert": "c.pem", "key": "k.pem" },
        },
        "routes": [{
            "topic": "drivers/{driver_id}/position",
            "table": "fleet.positions",
            "format": "json",
            "compression": "auto",
            "maxPayloadBytes": 65536,
            "qos": 1,
            "rows": "samples",
            "schema": "add-columns",
            "addColumns": { "afterMessages": 5, "maxColumns": 10 },
            "dedupe": { "by": ["event_id"], "windowMs": 1000, "maxKeys": 10 },
            "deadband": { "column": "lat", "delta": 0.5, "by": ["driver"], "everyMs": 1000, "maxKeys": 10 },
            "where": {
                "or": [
                    { "path": ["speed", "v"], "exists": true, "ge": 1, "lt": 9.5, "ne": "x" },
                    { "not": { "and": [{ "topic": "driver_id", "in": ["a", 1, true] }, { "path": "$.a[-1]", "eq": false }] } },
                ],
            },
            "columns": {
                "lat": "position.lat",
                "at": { "path": "ts", "unit": "ms", "default": 0 },
                "driver": { "topic": "driver_id" },
                "got": { "meta": "receivedAt" },
                "colour": { "userProperty": "colour" },
                "tenant": { "lookup": "drivers", "key": "driver_id", "field": "tenant", "default": "" },
                "class": { "lookup": "classes", "key": { "path": "meta.class" } },
                "site": { "value": "north" },
            },
            "continue": true,
            "unknownFields": "ignore",
            "missingFields": "zero",
            "allowNullTable": true,
            "nulls": ["N/A"],
            "nan": "null",
            "transform": { "module": "file:///service/positions.js", "export": "position", "threads": 2, "data": [1] },
            "inputs": { "accuracy": { "path": "gps.acc", "type": "Float32", "default": 0 } },
            "emits": ["alerts"],
            "transformTimeoutMs": 100,
        }],
        "tables": ["audit", "fleet.log"],
        "batch": { "maxRows": 10, "maxBytes": 1000, "maxDelayMs": 100 },
        "spool": { "dir": "spool", "maxBytes": 1u64 << 50, "commitMs": 1, "segmentBytes": 65536 },
        "deadLetters": { "table": "dead" },
        "lookups": { "drivers": { "entries": { "d": { "tenant": "acme" } } } },
        "memory": { "maxBytes": 1048576 },
        "tracing": { "sampleRatio": 0.5 },
        "metricsIntervalMs": 0,
        "startTimeoutMs": 120_000,
    })
}

/// `full` with one option set, named as a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = full();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    match parent {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        _ => parent[name] = value,
    }
    config
}

/// `/routes/0/columns/at/unit` as `routes[0].columns.at.unit`.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer[1..].split('/') {
        match part.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(part),
            Err(_) => path.push_str(&format!(".{part}")),
        }
    }
    path
}

fn check_wrong(config: &Value, expected: &str) {
    match Config::parse(&config.to_string()) {
        Ok(_) => panic!("{expected} is taken"),
        Err(error) => {
            assert_eq!((error.code(), error.path()), ("CONFIG_INVALID", Some(expected)), "{error}");
            assert!(error.to_string().starts_with(&format!("{expected}: ")), "{error}");
        }
    }
}

/// The values that an option takes, and thereby those that it refuses.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Text,
    /// One of a few words, or a number from 0 to 1.
    Choice,
    /// The same, or an object.
    ChoiceOrSection,
    TextOrSection,
    /// A text or a list of texts.
    Texts,
    Flag,
    Integer(u64, u64),
    /// A number that is not negative.
    Amount,
    Section,
    List,
    /// A list of objects.
    Conditions,
    /// A text or a number.
    Scalar,
}
use Takes::*;

const DAY_MS: u64 = 24 * 3600 * 1000;

const OPTIONS: [(&str, Takes); 126] = [
    ("/name", Text),
    ("/mqtt", Section),
    ("/mqtt/url", Texts),
    ("/mqtt/clientId", Text),
    ("/mqtt/username", TextOrSection),
    ("/mqtt/password", TextOrSection),
    ("/mqtt/protocolVersion", Integer(4, 5)),
    ("/mqtt/qos", Integer(0, 2)),
    ("/mqtt/sharedGroup", Text),
    ("/mqtt/connections", Integer(1, 1024)),
    ("/mqtt/sessionExpirySeconds", Integer(0, u32::MAX as u64)),
    ("/mqtt/keepAliveSeconds", Integer(1, 65535)),
    ("/mqtt/receiveMaximum", Integer(1, 65535)),
    ("/mqtt/topicAliasMaximum", Integer(0, 65535)),
    ("/mqtt/maxPacketBytes", Integer(1024, 268_435_455)),
    ("/mqtt/coalesceMs", Integer(0, 1000)),
    ("/mqtt/ackAfter", Choice),
    ("/mqtt/retained", Choice),
    ("/mqtt/topicRewrite", Choice),
    ("/mqtt/unsubscribe", List),
    ("/mqtt/filtersPerSubscribe", Integer(1, 65535)),
    ("/mqtt/reconnect", Section),
    ("/mqtt/reconnect/minMs", Integer(1, 20)),
    ("/mqtt/reconnect/maxMs", Integer(10, DAY_MS)),
    ("/mqtt/tls", Section),
    ("/mqtt/tls/ca", Text),
    ("/mqtt/tls/cert", Text),
    ("/mqtt/tls/key", Text),
    ("/mqtt/tls/serverName", Text),
    ("/mqtt/tls/insecure", Flag),
    ("/mqtt/tls/alpn", List),
    ("/clickhouse", Section),
    ("/clickhouse/url", Texts),
    ("/clickhouse/database", Text),
    ("/clickhouse/username", Text),
    ("/clickhouse/password", TextOrSection),
    ("/clickhouse/compression", Choice),
    ("/clickhouse/settings", Section),
    ("/clickhouse/maxInFlight", Integer(1, 64)),
    ("/clickhouse/connectTimeoutMs", Integer(1, DAY_MS)),
    ("/clickhouse/requestTimeoutMs", Integer(1, DAY_MS)),
    ("/clickhouse/retry", Section),
    ("/clickhouse/retry/minMs", Integer(1, 20)),
    ("/clickhouse/retry/maxMs", Integer(10, DAY_MS)),
    ("/clickhouse/retry/maxAgeMs", Integer(1, 3650 * DAY_MS)),
    ("/clickhouse/tls", Section),
    ("/clickhouse/tls/ca", Text),
    ("/clickhouse/tls/cert", Text),
    ("/clickhouse/tls/key", Text),
    ("/routes", List),
    ("/routes/0", Section),
    ("/routes/0/topic", Text),
    ("/routes/0/table", Text),
    ("/routes/0/format", ChoiceOrSection),
    ("/routes/0/compression", Choice),
    ("/routes/0/maxPayloadBytes", Integer(1024, 1 << 30)),
    ("/routes/0/nulls", Texts),
    ("/routes/0/nan", Choice),
    ("/routes/0/rows", TextOrSection),
    ("/routes/0/continue", Flag),
    ("/routes/0/where", Section),
    ("/routes/0/where/or", Conditions),
    ("/routes/0/where/or/0", Section),
    ("/routes/0/where/or/0/path", Texts),
    ("/routes/0/where/or/0/exists", Flag),
    ("/routes/0/where/or/0/ge", Scalar),
    ("/routes/0/where/or/0/lt", Scalar),
    ("/routes/0/where/or/1/not", Section),
    ("/routes/0/where/or/1/not/and", Conditions),
    ("/routes/0/where/or/1/not/and/0/topic", Text),
    ("/routes/0/columns", Section),
    ("/routes/0/columns/at/path", Texts),
    ("/routes/0/columns/at/unit", Choice),
    ("/routes/0/columns/driver/topic", Text),
    ("/routes/0/columns/got/meta", Choice),
    ("/routes/0/columns/colour/userProperty", Text),
    ("/routes/0/columns/tenant/lookup", Text),
    ("/routes/0/columns/tenant/key", TextOrSection),
    ("/routes/0/columns/tenant/field", Text),
    ("/routes/0/columns/class/key/path", Text),
    ("/lookups", Section),
    ("/routes/0/schema", Choice),
    ("/routes/0/addColumns", Section),
    ("/routes/0/addColumns/afterMessages", Integer(1, 100_000)),
    ("/routes/0/addColumns/maxColumns", Integer(1, 1000)),
    ("/lookups/drivers/entries", Section),
    ("/routes/0/dedupe", Section),
    ("/routes/0/dedupe/by", Texts),
    ("/routes/0/dedupe/windowMs", Integer(1, 7 * DAY_MS)),
    ("/routes/0/dedupe/maxKeys", Integer(1, 10_000_000)),
    ("/routes/0/deadband", Section),
    ("/routes/0/deadband/column", Text),
    ("/routes/0/deadband/delta", Amount),
    ("/routes/0/deadband/by", Texts),
    ("/routes/0/deadband/everyMs", Integer(1, 7 * DAY_MS)),
    ("/routes/0/deadband/maxKeys", Integer(1, 10_000_000)),
    ("/routes/0/qos", Integer(0, 2)),
    ("/routes/0/unknownFields", Choice),
    ("/routes/0/missingFields", Choice),
    ("/routes/0/allowNullTable", Flag),
    ("/routes/0/transform", TextOrSection),
    ("/routes/0/transform/module", Text),
    ("/routes/0/transform/export", Text),
    ("/routes/0/transform/threads", Integer(1, 64)),
    ("/routes/0/inputs", Section),
    ("/routes/0/emits", List),
    ("/routes/0/transformTimeoutMs", Integer(1, DAY_MS)),
    ("/tables", List),
    ("/batch", Section),
    ("/batch/maxRows", Integer(1, 1_048_449)),
    ("/batch/maxBytes", Integer(1, 1 << 30)),
    ("/batch/maxDelayMs", Integer(1, DAY_MS)),
    ("/spool", Section),
    ("/spool/dir", Text),
    ("/spool/maxBytes", Integer(1 << 20, 1 << 50)),
    ("/spool/commitMs", Integer(1, 1000)),
    ("/spool/segmentBytes", Integer(64 << 10, 1 << 30)),
    ("/deadLetters", Section),
    ("/deadLetters/table", Text),
    ("/deadLetters/dir", Text),
    ("/memory", Section),
    ("/memory/maxBytes", Integer(1 << 20, 1 << 50)),
    ("/metricsIntervalMs", Integer(0, DAY_MS)),
    ("/startTimeoutMs", Integer(1, DAY_MS)),
    ("/tracing", Section),
    ("/tracing/sampleRatio", Choice),
];

/// The options of the table below an object, as JSON pointers; what is in a record has names of the user's own.
fn pointers(object: &Object, parent: &str) -> Vec<String> {
    let own = object.rows.iter().filter(|row| !matches!(row.kind, Kind::Code { .. })).flat_map(|row| {
        let pointer = format!("{parent}/{}", row.name);
        let inner = match row.kind {
            Kind::Object { object } => pointers(object, &pointer),
            Kind::List { item: Kind::Object { object } } => pointers(object, &format!("{pointer}/0")),
            _ => Vec::new(),
        };
        [vec![pointer], inner].concat()
    });
    object.includes.iter().flat_map(|included| pointers(included, parent)).chain(own).collect()
}

#[test]
fn every_option_of_the_table_is_tried_here() {
    for pointer in pointers(&PIPELINE, "") {
        // They are for a format of their own, for routes that do nothing else, or for several servers: see the next tests.
        if pointer.starts_with("/routes/0/sparkplug")
            || pointer.starts_with("/routes/0/pivot")
            || pointer.starts_with("/routes/0/tables")
            || pointer.starts_with("/clickhouse/shards")
        {
            continue;
        }
        assert!(OPTIONS.iter().any(|(tried, _)| *tried == pointer), "{pointer}");
        assert!(
            pointer == "/deadLetters/dir" || full().pointer(&pointer).is_some(),
            "{pointer} is not in full()"
        );
    }
}

#[test]
fn pauses_and_commits_follow_from_the_time_that_rows_may_wait() {
    let times = |mqtt: Value, spool: Value, batch: Value| {
        let mut config = json!({
            "mqtt": { "url": "mqtt://a" }, "clickhouse": { "url": "http://a" },
            "routes": [{ "topic": "t", "table": "t" }],
        });
        config["mqtt"].as_object_mut().unwrap().extend(mqtt.as_object().unwrap().clone());
        config["batch"] = batch;
        if !spool.is_null() {
            config["spool"] = spool;
        }
        let config = Config::parse(&config.to_string()).unwrap();
        [config.max_rest(), config.seal_delay(), config.program_seal_delay()].map(|time| time.as_micros())
    };
    let (auto, none) = (json!({}), json!(null));
    let delay = |ms: u64| json!({ "maxDelayMs": ms });
    assert_eq!(times(auto.clone(), none.clone(), auto.clone()), [50_000, 1_000_000, 1_000_000]);
    assert_eq!(times(json!({ "coalesceMs": "auto" }), none.clone(), delay(20)), [1_000, 20_000, 20_000]);
    assert_eq!(times(auto.clone(), none.clone(), delay(60_000)), [250_000, 60_000_000, 60_000_000]);
    for given in [0, 1, 1000] {
        let rest = times(json!({ "coalesceMs": given }), none.clone(), delay(60_000))[0];
        assert_eq!(rest, given * 1000);
    }
    // It is acknowledged soon.
    assert_eq!(times(json!({ "ackAfter": "receive" }), none, delay(60_000))[0], 30_000);
    let spool = |commit: Value| json!({ "dir": "d", "commitMs": commit });
    assert_eq!(times(auto.clone(), spool(json!("auto")), auto.clone()), [30_000, 30_000, 5_000]);
    assert_eq!(times(auto.clone(), json!({ "dir": "d" }), delay(20)), [1_000, 5_000, 5_000]);
    assert_eq!(times(auto.clone(), spool(json!(20)), auto.clone()), [20_000, 20_000, 20_000]);
    let inserted = json!({ "ackAfter": "insert" });
    assert_eq!(times(inserted, spool(json!("auto")), auto), [50_000, 1_000_000, 1_000_000]);
}

#[test]
fn shards_need_a_key_and_a_server_each() {
    let with = |urls: Value, shards: Value| {
        json!({
            "mqtt": { "url": "mqtt://a" }, "clickhouse": { "url": urls, "shards": shards },
            "routes": [{ "topic": "t", "table": "t" }],
        })
    };
    let two = json!(["http://a", "http://b"]);
    let right = json!({ "key": ["driver"], "tables": { "t": ["team", "driver"] } });
    Config::parse(&with(two.clone(), right).to_string()).unwrap();
    check_wrong(&with(json!("http://a"), json!({ "key": ["driver"] })), "clickhouse.shards");
    check_wrong(&with(two.clone(), json!({})), "clickhouse.shards.key");
    check_wrong(&with(two.clone(), json!({ "key": "driver" })), "clickhouse.shards.key");
    check_wrong(&with(two.clone(), json!({ "key": ["a"], "tables": ["t"] })), "clickhouse.shards.tables");
    check_wrong(&with(two, json!({ "key": ["a"], "weights": [1] })), "clickhouse.shards.weights");
}

#[test]
fn messages_choose_tables_that_are_allowed() {
    let route = |table: &str, tables: Value, more: Value| {
        let mut route = json!({ "topic": "p/{plant}/{line#}", "table": table });
        if !tables.is_null() {
            route["tables"] = tables;
        }
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" }, "routes": [route] })
    };
    let allow = json!({ "allow": ["t_north", "t_*"] });
    for (table, tables, more) in [
        ("t_{plant}", allow.clone(), json!({})),
        ("d.t_{plant}_{line}", json!({ "allow": "d.t_*", "max": 1000 }), json!({ "dedupe": { "by": "id" } })),
        ("{plant}", allow.clone(), json!({ "pivot": { "key": "id" }, "continue": false })),
    ] {
        Config::parse(&route(table, tables, more).to_string()).unwrap();
    }
    for (table, tables, more, path) in [
        ("t_{plant}", json!(null), json!({}), "tables"),
        ("t_north", allow.clone(), json!({}), "tables"),
        ("t_{site}", allow.clone(), json!({}), "table"),
        ("t_{plant", allow.clone(), json!({}), "table"),
        ("t_{plant}", allow.clone(), json!({ "transform": { "module": "file:///a.js" } }), "table"),
        ("t_{plant}", allow.clone(), json!({ "continue": true }), "table"),
        ("t_{plant}", allow.clone(), json!({ "schema": "add-columns" }), "table"),
        ("t_{plant}", json!({}), json!({}), "tables.allow"),
        ("t_{plant}", json!({ "allow": [] }), json!({}), "tables.allow"),
        ("t_{plant}", json!({ "allow": ["t_{plant}"] }), json!({}), "tables.allow[0]"),
        ("t_{plant}", json!({ "allow": ["a", ""] }), json!({}), "tables.allow[1]"),
        ("t_{plant}", json!({ "allow": "t_*", "max": 0 }), json!({}), "tables.max"),
        ("t_{plant}", json!({ "allow": "t_*", "max": 1001 }), json!({}), "tables.max"),
        ("t_{plant}", json!({ "allow": "t_*", "deny": "t_x" }), json!({}), "tables.deny"),
    ] {
        check_wrong(&route(table, tables, more), &format!("routes[0].{path}"));
    }
}

#[test]
fn a_route_that_gathers_messages_does_nothing_else_with_them() {
    let routes = |routes: Value| json!({ "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" }, "routes": routes });
    let with = |pivot: Value, more: Value| {
        let mut route = json!({ "topic": "a/{device}/{property}", "table": "t", "pivot": pivot });
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        routes(json!([route]))
    };
    let plain = json!({ "key": "device" });
    for (pivot, more) in [
        (plain.clone(), json!({})),
        (
            json!({ "key": ["device", "site"], "windowMs": 3_600_000, "name": "property", "repeated": "last" }),
            json!({}),
        ),
        (json!({ "key": "device", "name": "property" }), json!({ "format": "text", "continue": false })),
        (plain.clone(), json!({ "format": "cbor", "where": { "topic": "device", "ne": "x" } })),
    ] {
        Config::parse(&with(pivot, more).to_string()).unwrap();
    }
    for (pivot, path) in [
        (json!({}), "key"),
        (json!({ "key": [] }), "key"),
        (json!({ "key": ["a", "a"] }), "key[1]"),
        (json!({ "key": "device", "windowMs": 0 }), "windowMs"),
        (json!({ "key": "device", "windowMs": 3_600_001 }), "windowMs"),
        (json!({ "key": "device", "name": "site" }), "name"),
        (json!({ "key": "device", "repeated": "first" }), "repeated"),
        (json!({ "key": "device", "window": 1 }), "window"),
    ] {
        check_wrong(&with(pivot, json!({})), &format!("routes[0].pivot.{path}"));
    }
    check_wrong(&with(json!("device"), json!({})), "routes[0].pivot");
    for more in [
        json!({ "rows": "list" }),
        json!({ "transform": { "module": "file:///a.js" } }),
        json!({ "continue": true }),
        json!({ "dedupe": { "by": "id" } }),
        json!({ "deadband": { "column": "v", "delta": 1 } }),
        json!({ "schema": "add-columns" }),
        json!({ "format": "csv" }),
        json!({ "format": { "type": "csv", "columns": ["a"] } }),
        json!({ "format": "sparkplug" }),
        json!({ "format": "text" }),
    ] {
        check_wrong(&with(plain.clone(), more), "routes[0].pivot");
    }
    let route = |topic: &str| json!({ "topic": topic, "table": "t" });
    let mut gathering = route("a/{device}");
    gathering["pivot"] = plain;
    let mut earlier = route("a/#");
    earlier["continue"] = json!(true);
    check_wrong(&routes(json!([earlier, gathering])), "routes[1].pivot");
    earlier["topic"] = json!("b/#");
    Config::parse(&routes(json!([earlier, gathering])).to_string()).unwrap();
}

#[test]
fn births_are_asked_for_on_a_route_of_sparkplug_alone() {
    let with_format = |format: &str, sparkplug: Value| {
        json!({
            "mqtt": { "url": "mqtt://a" }, "clickhouse": { "url": "http://a" },
            "routes": [{ "topic": "t", "table": "t", "format": format, "sparkplug": sparkplug }],
        })
    };
    Config::parse(&with_format("sparkplug", json!({ "rebirth": true })).to_string()).unwrap();
    check_wrong(&with_format("sparkplug", json!({ "rebirth": 1 })), "routes[0].sparkplug.rebirth");
    check_wrong(&with_format("sparkplug", json!({ "birth": true })), "routes[0].sparkplug.birth");
    check_wrong(&with_format("sparkplug", json!(true)), "routes[0].sparkplug");
    check_wrong(&with_format("json", json!({ "rebirth": true })), "routes[0].sparkplug");
}

#[test]
fn every_option_can_be_given() {
    Config::parse(&full().to_string()).unwrap();
}

#[test]
fn an_option_of_the_wrong_kind_is_refused() {
    let kinds = [json!(null), json!(true), json!(1.5), json!("soon"), json!([1]), json!({ "a": 1 })];
    for (pointer, takes) in OPTIONS {
        for value in &kinds {
            let fits = match takes {
                Text => value.is_string(),
                Section | ChoiceOrSection => value.is_object(),
                TextOrSection => value.is_string() || value.is_object(),
                Texts | List => value.is_string() || value.is_array(),
                // A mistake in the list is reported with its position there.
                Conditions => value.is_array(),
                Scalar => value.is_string() || value.is_number(),
                Flag => value.is_boolean(),
                Amount => value.is_number(),
                Choice | Integer(..) => false,
            };
            if !fits {
                check_wrong(&with(pointer, value.clone()), &path(pointer));
            }
        }
    }
    for pointer in ["/routes/0/columns/lat", "/clickhouse/settings/max_threads"] {
        check_wrong(&with(pointer, json!(null)), &path(pointer));
        check_wrong(&with(pointer, json!([])), &path(pointer));
    }
    for (list, first) in [("/mqtt/url", "mqtt://a"), ("/clickhouse/url", "http://a")] {
        check_wrong(&with(list, json!([])), &path(list));
        check_wrong(&with(list, json!([first, 1])), &format!("{}[1]", path(list)));
    }
}

#[test]
fn an_integer_beyond_its_limits_is_refused() {
    for (pointer, takes) in OPTIONS {
        let Integer(min, max) = takes else { continue };
        for fits in [min, max] {
            let mut config = with(pointer, json!(fits));
            // Others must fit below it.
            if pointer != "/memory/maxBytes" {
                config["memory"]["maxBytes"] = json!(1u64 << 40);
            }
            if pointer.ends_with("sessionExpirySeconds") {
                config["mqtt"]["clientId"] = json!("c");
            }
            assert!(Config::parse(&config.to_string()).is_ok(), "{pointer}: {fits}");
        }
        check_wrong(&with(pointer, json!(-1)), &path(pointer));
        check_wrong(&with(pointer, json!(min as f64 + 0.5)), &path(pointer));
        check_wrong(&with(pointer, json!(u64::MAX)), &path(pointer));
        check_wrong(&with(pointer, json!(1e300)), &path(pointer));
        // minMs beyond maxMs is reported at maxMs.
        if !pointer.ends_with("minMs") {
            check_wrong(&with(pointer, json!(max + 1)), &path(pointer));
        }
        if min > 0 {
            check_wrong(&with(pointer, json!(min - 1)), &path(pointer));
        }
    }
}

/// A message is in memory several times on its way.
#[test]
fn an_option_beyond_the_ceiling_is_refused_and_both_options_are_named() {
    const MIB: u64 = 1 << 20;
    let mut config = full();
    config["memory"]["maxBytes"] = json!(8 * MIB);
    for (pointer, limit, times) in [
        ("/mqtt/maxPacketBytes", MIB, 8),
        ("/batch/maxBytes", MIB, 8),
        ("/routes/0/maxPayloadBytes", MIB, 8),
        ("/spool/segmentBytes", 4 * MIB, 2),
    ] {
        *config.pointer_mut(pointer).unwrap() = json!(limit);
        assert!(Config::parse(&config.to_string()).is_ok(), "{pointer}");
        *config.pointer_mut(pointer).unwrap() = json!(limit + 1);
        let error = Config::parse(&config.to_string()).unwrap_err();
        let path = path(pointer);
        assert_eq!((error.code(), error.path()), ("CONFIG_INVALID", Some(&*path)));
        let expected = format!(
            "{path}: {} bytes are too many for memory.maxBytes, {}: set memory.maxBytes to {} or more, or {path} to {limit} or \
             less",
            limit + 1,
            8 * MIB,
            times * (limit + 1),
        );
        assert_eq!(error.to_string(), expected);
        *config.pointer_mut(pointer).unwrap() = json!(limit);
    }
}

/// Sizes that were left out are smaller where the ceiling asks for that; but that of a packet, by which messages are refused.
#[test]
fn defaults_fit_under_the_ceiling() {
    let parse = |memory: u64, packet: u64| {
        let config = json!({
            "mqtt": { "url": "mqtt://a", "maxPacketBytes": packet },
            "clickhouse": { "url": "http://a" },
            "routes": [{ "topic": "a", "table": "t", "compression": "gzip" }],
            "spool": { "dir": "spool" },
            "memory": { "maxBytes": memory },
        });
        Config::parse(&config.to_string())
    };
    let config = parse(1 << 20, 1 << 17).unwrap();
    assert_eq!((config.batch.bytes, config.batch.total_bytes), (1 << 17, 1 << 17));
    assert_eq!(config.routes[0].max_payload_bytes, 1 << 17);
    assert_eq!(config.spool.unwrap().segment_bytes, 1 << 19);
    let config = parse(1 << 30, 1 << 20).unwrap();
    assert_eq!((config.batch.bytes, config.batch.total_bytes), (8 << 20, 1 << 27));
    assert_eq!(config.routes[0].max_payload_bytes, 16 << 20);
    assert_eq!(config.spool.unwrap().segment_bytes, 64 << 20);
}

#[test]
fn an_impossible_text_is_refused() {
    for (pointer, value) in [
        ("/name", json!("")),
        ("/name", json!("a b")),
        ("/mqtt/url", json!("broker")),
        ("/mqtt/url", json!("http://broker")),
        ("/mqtt/url", json!("mqtt://")),
        ("/mqtt/url", json!("mqtt://broker:0")),
        ("/mqtt/url", json!("mqtt://broker:65536")),
        ("/mqtt/url", json!("mqtt://broker/path")),
        ("/mqtt/url", json!("mqtt://user:secret@broker")),
        ("/mqtt/url/1", json!("mqtt://[::1")),
        ("/mqtt/unsubscribe/0", json!("")),
        ("/mqtt/unsubscribe/0", json!("a/#/b")),
        ("/mqtt/unsubscribe/0", json!("a/{b}")),
        ("/mqtt/unsubscribe/0", json!("$share/g")),
        ("/mqtt/tls/alpn/0", json!("")),
        ("/mqtt/tls/alpn/0", json!("x".repeat(256))),
        ("/mqtt/clientId", json!("")),
        ("/mqtt/clientId", json!("a\0b")),
        // A password needs a user name: [MQTT-3.1.2-22] of MQTT 3.1.1. An empty one is not sent.
        ("/mqtt/username", json!("")),
        ("/mqtt/sharedGroup", json!("")),
        ("/mqtt/sharedGroup", json!("a/b")),
        ("/clickhouse/url", json!("clickhouse:8123")),
        ("/clickhouse/url", json!("http://")),
        ("/clickhouse/url", json!("http://user:secret@host")),
        ("/clickhouse/url", json!("http://host/?database=x")),
        ("/clickhouse/url", json!("http://:8123")),
        ("/clickhouse/url", json!("http://host:")),
        ("/clickhouse/url", json!("http://host:0")),
        ("/clickhouse/url", json!("http://host:65536")),
        ("/clickhouse/username", json!("a\r\nb")),
        ("/clickhouse/password", json!("a\r\nb")),
        ("/clickhouse/settings/async_insert", json!(1)),
        ("/clickhouse/settings/deduplicate_insert", json!("disable")),
        ("/clickhouse/settings/timeout_overflow_mode", json!("break")),
        ("/clickhouse/settings/insert_distributed_one_random_shard", json!(1)),
        ("/clickhouse/settings/min_insert_block_size_rows", json!(1)),
        ("/clickhouse/settings/materialized_views_ignore_errors", json!(1)),
        ("/routes", json!([])),
        ("/tables", json!([])),
        ("/tables/0", json!("")),
        ("/tables/1", json!("audit")),
        ("/routes/0/topic", json!("")),
        ("/routes/0/topic", json!("a/#/b")),
        ("/routes/0/topic", json!("{a}/{a}")),
        ("/routes/0/table", json!("")),
        ("/routes/0/columns/lat", json!("a..b")),
        ("/routes/0/columns/lat", json!({})),
        ("/routes/0/columns/at/path", json!("a[")),
        ("/routes/0/columns/at/path", json!([])),
        ("/routes/0/columns/at/path", json!("a[*].b")),
        ("/routes/0/columns/at/parse", json!("xml")),
        ("/routes/0/columns/at/scale", json!("3.6")),
        ("/routes/0/format", json!({ "type": "csv" })),
        ("/routes/0/format", json!("xml")),
        ("/routes/0/columns/driver/topic", json!("nobody")),
    ] {
        check_wrong(&with(pointer, value), &path(pointer));
    }
}

#[test]
fn an_impossible_condition_is_refused() {
    for (condition, expected) in [
        (json!(true), ""),
        (json!([]), ""),
        (json!({}), ""),
        (json!({ "eq": 5 }), ""),
        (json!({ "path": "a" }), ""),
        (json!({ "topic": "driver_id" }), ""),
        (json!({ "path": "" , "eq": 1 }), ".path"),
        (json!({ "path": "a..b", "eq": 1 }), ".path"),
        (json!({ "path": "a[*]", "eq": 1 }), ".path"),
        (json!({ "path": [], "eq": 1 }), ".path"),
        (json!({ "path": ["a", "b["], "eq": 1 }), ".path[1]"),
        (json!({ "path": 5, "eq": 1 }), ".path"),
        (json!({ "topic": "nobody", "eq": 1 }), ".topic"),
        (json!({ "topic": 5, "eq": 1 }), ".topic"),
        (json!({ "path": "a", "eq": null }), ".eq"),
        (json!({ "path": "a", "ne": null }), ".ne"),
        (json!({ "path": "a", "eq": [1] }), ".eq"),
        (json!({ "path": "a", "eq": {} }), ".eq"),
        (json!({ "path": "a", "lt": true }), ".lt"),
        (json!({ "path": "a", "le": null }), ".le"),
        (json!({ "path": "a", "gt": [] }), ".gt"),
        (json!({ "path": "a", "ge": {} }), ".ge"),
        (json!({ "path": "a", "in": [] }), ".in"),
        (json!({ "path": "a", "in": 1 }), ".in"),
        (json!({ "path": "a", "in": [1, null] }), ".in[1]"),
        (json!({ "path": "a", "in": [[1]] }), ".in[0]"),
        (json!({ "path": "a", "exists": 1 }), ".exists"),
        (json!({ "path": "a", "exists": null }), ".exists"),
        (json!({ "path": "a", "eq": 1, "equals": 1 }), ".equals"),
        (json!({ "path": "a", "eq": 1, "topic": "driver_id" }), ".topic"),
        (json!({ "path": "a", "eq": 1, "and": [{ "path": "a", "eq": 1 }] }), ".and"),
        (json!({ "and": [] }), ".and"),
        (json!({ "and": {} }), ".and"),
        (json!({ "and": [{ "path": "a", "eq": 1 }, 5] }), ".and[1]"),
        (json!({ "or": [{ "path": "a", "eq": 1 }, {}] }), ".or[1]"),
        (json!({ "or": [{ "not": { "path": "a" } }] }), ".or[0].not"),
        (json!({ "or": [{ "not": { "path": "a", "gt": true } }] }), ".or[0].not.gt"),
        (json!({ "not": [] }), ".not"),
        (json!({ "not": null }), ".not"),
        (json!({ "not": { "path": "a", "eq": 1 }, "or": [{ "path": "a", "eq": 1 }] }), ".not"),
    ] {
        check_wrong(&with("/routes/0/where", condition), &format!("routes[0].where{expected}"));
    }
    let error = Config::parse(&with("/routes/0/where", json!({ "path": "a", "eq": null })).to_string());
    assert!(error.unwrap_err().to_string().contains("exists: false"));
    let mut nested = json!({ "path": "a", "eq": 1 });
    for _ in 0..50 {
        nested = json!({ "not": nested });
    }
    Config::parse(&with("/routes/0/where", nested).to_string()).unwrap();
}

#[test]
fn an_impossible_path_or_rows_is_refused() {
    for (pointer, value, expected) in [
        ("/routes/0/columns/lat", json!(["a", "b["]), "routes[0].columns.lat[1]"),
        ("/routes/0/columns/lat", json!(["a", 1]), "routes[0].columns.lat[1]"),
        ("/routes/0/columns/lat", json!({ "key": "a.b" }), "routes[0].columns.lat.key"),
        ("/routes/0/rows", json!({ "zip": { "a": "a[*]" } }), "routes[0].rows.zip.a"),
        ("/routes/0/rows", json!({ "zip": { "a": 1 } }), "routes[0].rows.zip.a"),
        ("/routes/0/rows", json!({ "zip": {} }), "routes[0].rows"),
        ("/routes/0/rows", json!("@.a"), "routes[0].rows"),
        ("/routes/0/format", json!({ "type": "csv", "columns": ["a"], "x": 1 }), "routes[0].format.x"),
    ] {
        check_wrong(&with(pointer, value), expected);
    }
}

/// A text for the broker has a length of two bytes: MQTT 5, 1.5.4.
#[test]
fn no_secret_is_printed_with_a_configuration() {
    let mut config = full();
    for password in ["/mqtt/password", "/clickhouse/password", "/mqtt/tls/key", "/clickhouse/tls/key"] {
        *config.pointer_mut(password).unwrap() = json!("planted");
    }
    config["mqtt"]["url"] = json!(["wss://two/mqtt?token=planted", "mqtts://one"]);
    let parsed = Config::parse(&config.to_string()).unwrap();
    assert!(!format!("{parsed:?}").contains("planted"), "{parsed:?}");
    config["clickhouse"]["url"] = json!("https://two/token=planted");
    let config = Config::parse(&config.to_string()).unwrap();
    assert!(!config.clickhouse.places().contains("planted"));
}

#[test]
fn a_text_too_long_for_mqtt_is_refused() {
    let long = "x".repeat(65536);
    for pointer in
        ["/mqtt/clientId", "/mqtt/username", "/mqtt/password", "/mqtt/sharedGroup", "/routes/0/topic"]
    {
        check_wrong(&with(pointer, json!(long)), &path(pointer));
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let without = |pointer: &str, mut config: Value| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        config
    };
    check_wrong(&without("/mqtt/username", full()), "mqtt.password");
    check_wrong(&without("/mqtt/clientId", full()), "mqtt.sessionExpirySeconds");
    check_wrong(&with("/deadLetters/dir", json!("letters")), "deadLetters.dir");
    check_wrong(&with("/mqtt/reconnect/minMs", json!(21)), "mqtt.reconnect.maxMs");
    for (section, url) in [("mqtt", "ws://one"), ("clickhouse", "http://one")] {
        check_wrong(&without(&format!("/{section}/tls/key"), full()), &format!("{section}.tls.key"));
        check_wrong(&without(&format!("/{section}/tls/cert"), full()), &format!("{section}.tls.cert"));
        check_wrong(&with(&format!("/{section}/url"), json!(url)), &format!("{section}.tls"));
    }
    for required in [
        "/mqtt",
        "/mqtt/url",
        "/clickhouse",
        "/clickhouse/url",
        "/routes",
        "/routes/0/topic",
        "/routes/0/table",
    ] {
        check_wrong(&without(required, full()), &path(required));
    }
}

#[test]
fn an_unknown_option_is_refused() {
    for section in [
        "",
        "/mqtt",
        "/mqtt/reconnect",
        "/mqtt/tls",
        "/clickhouse",
        "/clickhouse/retry",
        "/clickhouse/tls",
        "/routes/0",
        "/routes/0/columns/at",
        "/routes/0/columns/driver",
        "/routes/0/columns/got",
        "/routes/0/columns/colour",
        "/routes/0/columns/site",
        "/batch",
        "/deadLetters",
        "/memory",
    ] {
        let pointer = format!("{section}/nonsense");
        check_wrong(&with(&pointer, json!(1)), &path(&pointer));
    }
    let error = Config::parse(&with("/mqtt/clientID", json!("c")).to_string()).unwrap_err();
    assert!(error.to_string().ends_with("did you mean clientId?"), "{error}");
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "(mqtt|http|ws)://[a-z@:/\\[\\]0-9?#]{0,12}".prop_map(Value::from),
        "[a-z{}+#/$.\\[\\]']{0,16}".prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![
            prop::sample::select(vec![
                "url", "path", "topic", "meta", "value", "table", "columns", "minMs", "and", "not", "in",
                "eq"
            ])
            .prop_map(str::to_string),
            any::<String>(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// It is taken, or refused with its code: anything but a panic.
fn check_anything(text: &str) {
    if let Err(error) = Config::parse(text) {
        assert_eq!(error.code(), "CONFIG_INVALID");
        assert!(error.path().is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_taken_or_refused(text: String) {
        check_anything(&text);
    }

    #[test]
    fn any_json_is_taken_or_refused(value in any_value()) {
        check_anything(&value.to_string());
    }

    #[test]
    fn any_value_of_any_option_is_taken_or_refused(
        changes in prop::collection::vec((prop::sample::select(&OPTIONS[..]), any_value()), 1..4),
    ) {
        let mut config = full();
        for ((pointer, _), value) in changes {
            if let Some(place) = config.pointer_mut(pointer) {
                *place = value;
            }
        }
        check_anything(&config.to_string());
    }
}

#[test]
fn endless_nesting_is_refused() {
    check_anything(&"[".repeat(100_000));
    check_anything(&format!(r#"{{"mqtt":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000)));
}

#[test]
fn options_of_a_transform_need_one() {
    let route = |changes: Value| {
        let mut config = full();
        let route = config["routes"][0].as_object_mut().unwrap();
        for name in ["transform", "inputs", "emits", "transformTimeoutMs"] {
            route.remove(name);
        }
        for (name, value) in changes.as_object().unwrap() {
            route.insert(name.clone(), value.clone());
        }
        config
    };
    Config::parse(&route(json!({ "transform": { "function": true } })).to_string()).unwrap();
    for (name, value) in [
        ("inputs", json!({ "a": { "type": "UInt8" } })),
        ("emits", json!(["a"])),
        ("transformTimeoutMs", json!(1)),
    ] {
        check_wrong(&route(json!({ name: value })), &format!("routes[0].{name}"));
    }
    let computed = |value: Value| json!({ "columns": { "kmh": { "computed": value } } });
    check_wrong(&route(computed(json!(true))), "routes[0].columns.kmh.computed");
    let mut with_transform = computed(json!(false));
    with_transform["transform"] = json!("./t.js");
    check_wrong(&route(with_transform), "routes[0].columns.kmh.computed");
    for (input, path) in [
        (json!("gps.acc"), "routes[0].inputs.acc"),
        (json!({ "path": "gps.acc" }), "routes[0].inputs.acc"),
        (json!({ "type": "UInt8", "path": "a..b" }), "routes[0].inputs.acc.path"),
        (json!({ "type": "UInt8", "computed": true }), "routes[0].inputs.acc"),
        (json!({ "type": "UInt8", "pth": "a" }), "routes[0].inputs.acc"),
    ] {
        check_wrong(&route(json!({ "transform": "./t.js", "inputs": { "acc": input } })), path);
    }
}
