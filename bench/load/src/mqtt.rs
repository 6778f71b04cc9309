//! The few MQTT packets a publisher needs: CONNECT, PUBLISH and DISCONNECT out, CONNACK and PUBACK in.
//!
//! Pure functions over byte buffers. `connection` owns the socket and calls them; section numbers are those of
//! the OASIS standards, MQTT 3.1.1 and 5.0. The packets of a broker are in `broker`.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

/// Who is connecting. Sessions are always clean: a load generator has nothing to come back for.
pub struct Login<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
}

pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// The packets that a broker may send a publisher.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// `receive_maximum` is how many unacknowledged messages the broker takes (MQTT 5, 3.2.2.3.3).
    ConnAck {
        code: u8,
        receive_maximum: u16,
        maximum_qos: Qos,
    },
    PubAck {
        packet_id: u16,
        code: u8,
    },
    /// The broker closes the connection and says why (MQTT 5 only).
    Disconnect {
        code: u8,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the other side sent {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Appends a CONNECT (3.1). Keep-alive is off: the stream itself shows that the connection works, and a
/// publisher held back by `--wait` should not be dropped.
pub fn connect(out: &mut Vec<u8>, version: Version, login: &Login<'_>) {
    const CLEAN: u8 = 0x02;
    const PASSWORD: u8 = 0x40;
    const USERNAME: u8 = 0x80;

    let mut body = Vec::with_capacity(64);
    string(&mut body, b"MQTT");
    body.push(match version {
        Version::V4 => 4,
        Version::V5 => 5,
    });
    let username = if login.username.is_some() { USERNAME } else { 0 };
    let password = if login.password.is_some() { PASSWORD } else { 0 };
    body.push(CLEAN | username | password);
    body.extend_from_slice(&0_u16.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    string(&mut body, login.client_id.as_bytes());
    for field in [login.username, login.password].into_iter().flatten() {
        string(&mut body, field.as_bytes());
    }
    out.push(0x10);
    remaining_length(out, body.len());
    out.extend_from_slice(&body);
}

/// Appends a PUBLISH (3.3); `packet_id` is given at QoS 1 and absent at QoS 0.
pub fn publish(out: &mut Vec<u8>, version: Version, packet_id: Option<u16>, topic: &[u8], payload: &[u8]) {
    let properties = usize::from(version == Version::V5);
    let id = if packet_id.is_some() { 2 } else { 0 };
    out.push(if packet_id.is_some() { 0x32 } else { 0x30 });
    remaining_length(out, 2 + topic.len() + id + properties + payload.len());
    string(out, topic);
    if let Some(id) = packet_id {
        out.extend_from_slice(&id.to_be_bytes());
    }
    if version == Version::V5 {
        out.push(0);
    }
    out.extend_from_slice(payload);
}

/// The first packet of `bytes` and its length, or nothing while it is incomplete.
pub fn next(bytes: &[u8], version: Version) -> Result<Option<(Incoming, usize)>, Malformed> {
    let Some((length, header)) = read_remaining_length(bytes)? else { return Ok(None) };
    let Some(body) = bytes.get(header..header + length) else { return Ok(None) };
    let packet = match bytes[0] >> 4 {
        2 => connack(body, version)?,
        4 => match *body {
            [high, low] => Incoming::PubAck { packet_id: u16::from_be_bytes([high, low]), code: 0 },
            [high, low, code, ..] => Incoming::PubAck { packet_id: u16::from_be_bytes([high, low]), code },
            _ => return Err(Malformed("a PUBACK without a packet id")),
        },
        14 => Incoming::Disconnect { code: body.first().copied().unwrap_or(0) },
        _ => return Err(Malformed("a packet that no publisher expects")),
    };
    Ok(Some((packet, header + length)))
}

fn connack(body: &[u8], version: Version) -> Result<Incoming, Malformed> {
    let [_session_present, code, rest @ ..] = body else {
        return Err(Malformed("a CONNACK that is too short"));
    };
    let mut receive_maximum = u16::MAX;
    let mut maximum_qos = Qos::AtLeastOnce;
    // A version 5 broker may refuse in the words of 3.1.1, without properties.
    if version == Version::V5
        && let Some((length, header)) = read_variable(rest)?
    {
        let cut = Malformed("a CONNACK with cut properties");
        let mut properties = rest.get(header..header + length).ok_or(cut)?;
        while let [id, value @ ..] = properties {
            let size = property_size(*id, value).ok_or(Malformed("a CONNACK with an unknown property"))?;
            match (id, value) {
                (0x21, [high, low, ..]) => receive_maximum = u16::from_be_bytes([*high, *low]),
                (0x24, [0, ..]) => maximum_qos = Qos::AtMostOnce,
                _ => {}
            }
            properties = value.get(size..).ok_or(Malformed("a CONNACK with a cut property"))?;
        }
    }
    Ok(Incoming::ConnAck { code: *code, receive_maximum, maximum_qos })
}

/// How many bytes the value of a CONNACK property takes (MQTT 5, 2.2.2.2).
fn property_size(id: u8, value: &[u8]) -> Option<usize> {
    let text = |at: usize| {
        let length = value.get(at..at + 2)?;
        Some(at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
    };
    match id {
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Some(1),
        0x13 | 0x21 | 0x22 => Some(2),
        0x11 | 0x27 => Some(4),
        0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => text(0),
        0x26 => text(text(0)?),
        _ => None,
    }
}

/// The remaining length of a packet and the length of its fixed header.
pub fn read_remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(rest) = bytes.get(1..) else { return Ok(None) };
    Ok(read_variable(rest)?.map(|(value, bytes)| (value, bytes + 1)))
}

/// A variable byte integer (1.5.5): its value, and how many bytes it took.
pub fn read_variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("a length of more than four bytes")) }
}

pub fn remaining_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Topics, client ids and credentials come from this program or its command line and are far below 64 KiB.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_with_credentials_is_what_section_3_1_says() {
        let mut out = Vec::new();
        let login = Login { client_id: "a", username: Some("u"), password: Some("p") };
        connect(&mut out, Version::V4, &login);
        assert_eq!(out, b"\x10\x13\x00\x04MQTT\x04\xC2\x00\x00\x00\x01a\x00\x01u\x00\x01p");
        out.clear();
        connect(&mut out, Version::V5, &Login { username: None, password: None, ..login });
        assert_eq!(out, b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a");
    }

    #[test]
    fn publish_carries_id_and_properties_only_where_they_belong() {
        let mut out = Vec::new();
        publish(&mut out, Version::V4, None, b"t", b"xy");
        publish(&mut out, Version::V4, Some(258), b"t", b"xy");
        publish(&mut out, Version::V5, Some(258), b"t", b"xy");
        assert_eq!(out, b"\x30\x05\x00\x01txy\x32\x07\x00\x01t\x01\x02xy\x32\x08\x00\x01t\x01\x02\x00xy");
    }

    #[test]
    fn lengths_take_the_fewest_bytes() {
        for (payload, expected) in [(124, &[0x7F_u8][..]), (125, &[0x80, 1]), (16_381, &[0x80, 0x80, 1])] {
            let mut out = Vec::new();
            publish(&mut out, Version::V4, None, b"t", &vec![b'x'; payload]);
            assert_eq!(&out[1..1 + expected.len()], expected);
            assert_eq!(read_remaining_length(&out).unwrap(), Some((payload + 3, 1 + expected.len())));
            assert_eq!(out.len(), 1 + expected.len() + payload + 3);
        }
    }

    #[test]
    fn acknowledgements_are_read_however_they_are_cut() {
        let stream = b"\x20\x02\x00\x00\x40\x02\x01\x02\x40\x02\xFF\xFF";
        for cut in 0..stream.len() {
            let mut packets = Vec::new();
            let mut pending = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                pending.extend_from_slice(part);
                while let Some((packet, length)) = next(&pending, Version::V4).unwrap() {
                    pending.drain(..length);
                    packets.push(packet);
                }
            }
            let connected =
                Incoming::ConnAck { code: 0, receive_maximum: u16::MAX, maximum_qos: Qos::AtLeastOnce };
            let acknowledged = |packet_id| Incoming::PubAck { packet_id, code: 0 };
            assert_eq!(packets, [connected, acknowledged(258), acknowledged(u16::MAX)]);
            assert!(pending.is_empty());
        }
    }

    #[test]
    fn a_version_5_connack_limits_the_window() {
        // Topic alias maximum, assigned client id, receive maximum 20, one user property, maximum QoS 0.
        let properties = b"\x22\x00\x0A\x12\x00\x02id\x21\x00\x14\x26\x00\x01k\x00\x01v\x24\x00";
        let mut packet = vec![0x20, 3 + properties.len() as u8, 0, 0, properties.len() as u8];
        packet.extend_from_slice(properties);
        let expected = Incoming::ConnAck { code: 0, receive_maximum: 20, maximum_qos: Qos::AtMostOnce };
        assert_eq!(next(&packet, Version::V5), Ok(Some((expected, packet.len()))));
        packet[4] += 1;
        assert!(next(&packet, Version::V5).is_err());
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        assert!(next(b"\x40\x01\x00", Version::V4).is_err());
        assert!(next(b"\x20\x01\x00", Version::V4).is_err());
        assert!(next(b"\x90\x00", Version::V4).is_err());
        assert!(next(b"\x40\xFF\xFF\xFF\xFF\x01", Version::V4).is_err());
        assert_eq!(next(b"\x40\xFF\xFF", Version::V4), Ok(None));
    }
}
