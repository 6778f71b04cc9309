use super::*;

fn captured(filter: &str, topic: &str) -> Option<Vec<String>> {
    let filter = TopicFilter::parse(filter).unwrap();
    let mut captures = Captures::default();
    filter
        .matches(topic, &mut captures)
        .then(|| (0..filter.names.len()).map(|i| captures.get(i, topic).to_string()).collect())
}

#[test]
fn named_levels_are_kept() {
    assert_eq!(captured("drivers/{id}/position", "drivers/42/position"), Some(vec!["42".into()]));
    assert_eq!(captured("a/{x}/+/{rest#}", "a/1/2/3/4"), Some(vec!["1".into(), "3/4".into()]));
    assert_eq!(captured("a/{rest#}", "a"), Some(vec![String::new()]));
    assert_eq!(captured("a/{rest#}", "a/"), Some(vec![String::new()]));
    assert_eq!(captured("{all#}", "/a/b"), Some(vec!["/a/b".into()]));
    assert_eq!(captured("{a}/{b}", "/"), Some(vec![String::new(), String::new()]));
}

// The examples of MQTT 5, sections 4.7.1.2 and 4.7.1.3.
#[test]
fn wildcards_match_as_the_specification_says() {
    for (filter, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "anything/at/all", true),
        ("#", "$SYS/uptime", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/uptime", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("/#", "/finance/stock", true),
        ("/#", "finance", false),
        ("a/#", "ab", false),
        ("a/#", "a/", true),
        ("+/#", "a", true),
        ("+/#", "a/b/c", true),
        ("a/b", "a/bc", false),
        ("a/b", "a", false),
        ("a//b", "a//b", true),
        ("a/+/c", "a//c", true),
        ("a/+/c", "a/b/d", false),
        ("a/+/c", "a/b/cd", false),
        ("a/+/c", "a/b", false),
    ] {
        assert_eq!(captured(filter, topic).is_some(), expected, "{filter} {topic}");
    }
}

#[test]
fn a_name_takes_several_levels_in_front_of_an_end() {
    let one = |text: &str| Some(vec![text.to_string()]);
    let filter = "zigbee2mqtt/{device#}/availability";
    assert_eq!(captured(filter, "zigbee2mqtt/lamp/availability"), one("lamp"));
    assert_eq!(captured(filter, "zigbee2mqtt/floor 1/desk/lamp/availability"), one("floor 1/desk/lamp"));
    assert_eq!(captured(filter, "zigbee2mqtt/availability/availability"), one("availability"));
    assert_eq!(captured(filter, "zigbee2mqtt//availability"), one(""));
    for topic in [
        "zigbee2mqtt/availability",
        "zigbee2mqtt/lamp",
        "zigbee2mqtt/lamp/availability/x",
        "zigbee2mqtt/lamp/xavailability",
        "zigbee2mqttx/lamp/availability",
        "zigbee2mqtt",
        "availability",
    ] {
        assert_eq!(captured(filter, topic), None, "{topic}");
    }
    let names = |topic| captured("{a}/{b#}/x/{c}", topic);
    assert_eq!(names("1/2/3/x/4"), Some(vec!["1".into(), "2/3".into(), "4".into()]));
    assert_eq!(names("1/x/4"), None);
    assert_eq!(captured("{all#}/end", "a/b/end"), one("a/b"));
    assert_eq!(captured("{all#}/end", "$SYS/b/end"), None);
    let subscribed = |text: &str| TopicFilter::parse(text).unwrap().subscribed().as_str().to_string();
    assert_eq!(subscribed(filter), "zigbee2mqtt/#");
    assert_eq!(subscribed("{a}/{b#}/x/{c}"), "+/#");
    assert_eq!(subscribed("{all#}/end"), "#");
    assert_eq!(subscribed("a/{b#}"), "a/#");
    let filter = TopicFilter::parse("z.1/{d#}/x.y").unwrap();
    let rewritten = filter.with_slashes_for_dots().unwrap();
    let mut captures = Captures::default();
    assert!(rewritten.matches("z/1/a/b/x/y", &mut captures));
    assert_eq!(captures.get(0, "z/1/a/b/x/y"), "a/b");
}

#[test]
fn slashes_for_dots_keep_the_captures() {
    let filter = TopicFilter::parse("plant.1/{dev}/temp.c/{rest#}").unwrap();
    let rewritten = filter.with_slashes_for_dots().unwrap();
    assert_eq!(rewritten.as_str(), "plant/1/+/temp/c/#");
    let mut captures = Captures::default();
    assert!(rewritten.matches("plant/1/d7/temp/c/x/y", &mut captures));
    assert_eq!(captures.get(0, "plant/1/d7/temp/c/x/y"), "d7");
    assert_eq!(captures.get(1, "plant/1/d7/temp/c/x/y"), "x/y");
    assert!(!rewritten.matches("plant.1/d7/temp.c/x", &mut captures));
    assert!(TopicFilter::parse("plant/{dev}").unwrap().with_slashes_for_dots().is_none());
}

#[test]
fn wrong_filters_are_refused() {
    for text in [
        "",
        "a/#/b",
        "a/{x#}/{y#}",
        "a/{x#}/b/#",
        "a+/b",
        "a/{x}/{x}",
        "a/{}",
        "a/{x",
        "a/x{y}",
        "$share/g/a",
    ] {
        assert!(TopicFilter::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_cover_is_the_narrowest_filter_of_both() {
    let parse = |t: &str| TopicFilter::parse(t).unwrap();
    for (a, b, expected) in [
        ("o/{dev}/c", "o/b/{dev}", "o/+/+"),
        ("+/b", "a/+", "+/+"),
        ("a/+/c", "a/b/#", "a/+/#"),
        ("a/+", "a/#", "a/#"),
        ("+/x", "a/#", "+/#"),
        ("+/a/#", "x/+/y", "+/+/#"),
        ("$SYS/+/a", "$SYS/b/+", "$SYS/+/+"),
    ] {
        let cover = parse(a).cover(&parse(b));
        assert_eq!(cover.as_str(), expected, "{a} {b}");
        assert!(cover.covers(&parse(a)) && cover.covers(&parse(b)), "{a} {b}");
        assert_eq!(parse(b).cover(&parse(a)).as_str(), expected, "{b} {a}");
    }
    assert!(!parse("#").overlaps(&parse("$SYS/a")));
    assert!(!parse("$SYS/a").overlaps(&parse("+/a")));
    assert!(parse("$SYS/+").overlaps(&parse("$SYS/a")));
}

#[test]
fn a_filter_knows_what_it_covers() {
    for (a, b, expected) in [
        ("#", "a/b", true),
        ("a/#", "a/+/c", true),
        ("a/#", "a", true),
        ("a/+", "a/b", true),
        ("a/+", "a/#", false),
        ("+/b", "a/+", false),
        ("a/b", "a/b", true),
        ("#", "$SYS/a", false),
        ("a/+/c", "a/#", false),
        ("a/#", "a/{x#}/b", true),
        ("a/{x#}/b", "a/#", false),
        ("a/{x#}/b", "a/c/b", true),
        ("a/{x#}/b", "a/+/c/b", true),
        ("a/{x#}/b", "a/b", false),
        ("a/{x#}/b", "a/c/+", false),
        ("a/{x#}/b", "a/{y#}/c/b", true),
        ("a/{x#}/+", "a/{y#}/b", true),
        ("a/{x#}/c/b", "a/{y#}/b", false),
        ("+/{x#}/b", "a/c/{y#}/b", true),
        ("a/+/b", "a/{x#}/b", false),
    ] {
        let parse = |t| TopicFilter::parse(t).unwrap();
        assert_eq!(parse(a).covers(&parse(b)), expected, "{a} {b}");
    }
}
