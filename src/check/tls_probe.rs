//! By what a connection is encrypted, seen in a handshake of its own.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::core::tls::Tls;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsInfo {
    /// Such as `TLSv1_3`.
    version: String,
    cipher: String,
    /// The server's own certificate, in DER and base64, which `lib/check.js` reads.
    certificate: Option<String>,
}

/// `None` where there is no connection: the client that connects afterwards reports why.
pub async fn probe(host: &str, port: u16, tls: &Tls, within: Duration) -> Option<TlsInfo> {
    let handshake = async {
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_string()).ok()?,
        };
        let client = tls.client().ok()?;
        let socket = TcpStream::connect((host, port)).await.ok()?;
        let stream = TlsConnector::from(client).connect(name, socket).await.ok()?;
        let (_, connection) = stream.get_ref();
        Some(TlsInfo {
            version: connection.protocol_version()?.as_str()?.into(),
            cipher: connection.negotiated_cipher_suite()?.suite().as_str()?.into(),
            certificate: connection
                .peer_certificates()?
                .first()
                .map(|certificate| STANDARD.encode(certificate)),
        })
    };
    tokio::time::timeout(within, handshake).await.ok().flatten()
}
