//! The broker rumqttd as a program: `rumqttd-server <4|5> <port>`. It ends when its standard input ends.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, stdin};
use std::net::{Ipv4Addr, TcpStream};
use std::process::exit;
use std::thread;
use std::time::Duration;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let version = arguments.next().ok_or("no version of MQTT")?;
    let port: u16 = arguments.next().ok_or("no port")?.parse()?;
    let servers = HashMap::from([(
        "tests".to_string(),
        ServerSettings {
            name: "tests".into(),
            listen: (Ipv4Addr::LOCALHOST, port).into(),
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 10_000,
                max_payload_size: 32 << 20,
                max_inflight_count: 1000,
                auth: None,
                external_auth: None,
                dynamic_filters: true,
            },
        },
    )]);
    let router = RouterConfig {
        max_connections: 1000,
        max_outgoing_packet_count: 1000,
        max_segment_size: 100 << 20,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    let mut config = Config { router, ..Config::default() };
    match version.as_str() {
        "4" => config.v4 = Some(servers),
        "5" => config.v5 = Some(servers),
        _ => return Err("the version of MQTT must be 4 or 5".into()),
    }

    thread::spawn(|| {
        let _ = stdin().read_to_end(&mut Vec::new());
        exit(0);
    });
    thread::spawn(move || {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        println!("rumqttd running on port {port}");
    });
    Broker::new(config).start()?;
    Ok(())
}
