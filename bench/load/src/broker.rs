//! The few packets of a broker that only pushes: CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ and DISCONNECT in, the answers
//! to them out. Pure functions over byte buffers, as in `mqtt`; `firehose` owns the socket.

use crate::mqtt::{Malformed, Version, read_remaining_length, read_variable, remaining_length};

/// A packet of the subscriber.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    Connect(Version),
    Subscribe,
    /// DISCONNECT.
    Leave,
    /// PUBACK, with its packet id.
    Acknowledge(u16),
    /// PINGREQ and UNSUBSCRIBE, which only want their answer.
    Other,
}

/// The first packet of `bytes` and its length, or nothing while it is incomplete. The answer to it is appended to `out`.
pub fn answer(
    bytes: &[u8],
    version: Version,
    out: &mut Vec<u8>,
) -> Result<Option<(Request, usize)>, Malformed> {
    let Some((length, header)) = read_remaining_length(bytes)? else { return Ok(None) };
    let Some(body) = bytes.get(header..header + length) else { return Ok(None) };
    let request = match bytes[0] >> 4 {
        1 => {
            let version = match body {
                [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Version::V4,
                [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Version::V5,
                _ => return Err(Malformed("a CONNECT of another version")),
            };
            out.extend_from_slice(match version {
                Version::V4 => b"\x20\x02\x00\x00",
                Version::V5 => b"\x20\x03\x00\x00\x00",
            });
            Request::Connect(version)
        }
        8 => {
            acknowledge(out, 0x90, body, version, |_, options| Some(options & 3))?;
            Request::Subscribe
        }
        10 => {
            // MQTT 3.1.1 has no codes here, and no options behind the filters in either version.
            acknowledge(out, 0xB0, body, version, |version, _| (version == Version::V5).then_some(0))?;
            Request::Other
        }
        12 => {
            out.extend_from_slice(b"\xD0\x00");
            Request::Other
        }
        14 => Request::Leave,
        4 => match body {
            [high, low, ..] => Request::Acknowledge(u16::from_be_bytes([*high, *low])),
            _ => return Err(Malformed("a PUBACK without a packet id")),
        },
        _ => return Err(Malformed("a packet that no subscriber sends")),
    };
    Ok(Some((request, header + length)))
}

/// SUBACK (3.9) or UNSUBACK (3.11): the packet id, and a code for each filter.
fn acknowledge(
    out: &mut Vec<u8>,
    kind: u8,
    body: &[u8],
    version: Version,
    code: impl Fn(Version, u8) -> Option<u8>,
) -> Result<(), Malformed> {
    const CUT: Malformed = Malformed("a list of filters that is cut");
    let (id, mut filters) = body.split_at_checked(2).ok_or(CUT)?;
    if version == Version::V5 {
        let (length, header) = read_variable(filters)?.ok_or(CUT)?;
        filters = filters.get(header + length..).ok_or(CUT)?;
    }
    let options = usize::from(kind == 0x90);
    let mut codes = Vec::new();
    while let [high, low, rest @ ..] = filters {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let asked = if options == 1 { *rest.get(length).ok_or(CUT)? } else { 0 };
        codes.extend(code(version, asked));
        filters = rest.get(length + options..).ok_or(CUT)?;
    }
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    out.push(kind);
    remaining_length(out, id.len() + properties.len() + codes.len());
    for part in [id, properties, &codes] {
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(bytes: &[u8], version: Version) -> (Request, Vec<u8>) {
        for cut in 0..bytes.len() {
            let mut out = Vec::new();
            assert_eq!(answer(&bytes[..cut], version, &mut out), Ok(None));
            assert!(out.is_empty());
        }
        let mut out = Vec::new();
        let (request, length) = answer(bytes, version, &mut out).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        (request, out)
    }

    #[test]
    fn a_subscriber_gets_the_answers_it_waits_for() {
        use Version::{V4, V5};
        let connect = b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x1E\x00\x01a";
        assert_eq!(answered(connect, V4), (Request::Connect(V4), b"\x20\x02\x00\x00".to_vec()));
        let connect = b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x1E\x00\x00\x01a";
        assert_eq!(answered(connect, V4), (Request::Connect(V5), b"\x20\x03\x00\x00\x00".to_vec()));
        // Two filters, at QoS 1 and 0; in version 5 with a subscription identifier, and options beside the QoS.
        let subscribe = b"\x82\x0A\x01\x02\x00\x01a\x01\x00\x01b\x00";
        assert_eq!(answered(subscribe, V4), (Request::Subscribe, b"\x90\x04\x01\x02\x01\x00".to_vec()));
        let subscribe = b"\x82\x0D\x01\x02\x02\x0B\x01\x00\x01a\x29\x00\x01b\x10";
        assert_eq!(answered(subscribe, V5), (Request::Subscribe, b"\x90\x05\x01\x02\x00\x01\x00".to_vec()));
        assert_eq!(
            answered(b"\xA2\x05\x01\x02\x00\x01a", V4),
            (Request::Other, b"\xB0\x02\x01\x02".to_vec())
        );
        assert_eq!(
            answered(b"\xA2\x06\x01\x02\x00\x00\x01a", V5),
            (Request::Other, b"\xB0\x04\x01\x02\x00\x00".to_vec())
        );
        assert_eq!(answered(b"\xC0\x00", V5), (Request::Other, b"\xD0\x00".to_vec()));
        assert_eq!(answered(b"\x40\x02\x00\x07", V5), (Request::Acknowledge(7), vec![]));
        assert_eq!(answered(b"\xE0\x00", V5), (Request::Leave, vec![]));
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        for bytes in
            [&b"\x82\x01\x00"[..], b"\x82\x06\x00\x01\x00\x09a\x00", b"\x30\x00", b"\x10\x02\x00\x04"]
        {
            assert!(answer(bytes, Version::V4, &mut Vec::new()).is_err());
        }
        assert!(answer(b"\x82\x03\x00\x01\x05", Version::V5, &mut Vec::new()).is_err());
    }
}
