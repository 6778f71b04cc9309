//! Recognises the first bytes of servers that do not speak MQTT.

use crate::mqtt::session::SessionError;

/// Refuses the first bytes that came for CONNECT if they are those of another protocol.
#[cold]
pub fn refuse(input: &[u8]) -> Result<(), SessionError> {
    // A record of TLS with an alert begins with its type and the version.
    if input.starts_with(&[0x15, 3]) {
        return Err(SessionError::protocol(
            "an alert of TLS: it is encrypted here, which mqtts:// or wss:// is for",
        ));
    }
    if input.starts_with(b"HTTP/") {
        return Err(SessionError::protocol("an answer of HTTP: ws:// or wss:// is for WebSockets"));
    }
    Ok(())
}
