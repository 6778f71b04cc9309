//! The `tls` section of either side, as it was given. The files that it names are read by `crate::core::tls`.

use rustls::pki_types::ServerName;

use crate::config::object_reader::ObjectReader;
use crate::core::error::{Error, Result};
use crate::core::tls::{Identity, Pem, Tls};

/// `is_used`: whether any URL asks for TLS.
pub fn tls(section: Option<ObjectReader<'_>>, path: &'static str, is_used: bool) -> Result<Tls> {
    let Some(o) = section else { return Ok(Tls::at(path)) };
    let tls = certificates(&o, path)?;
    finish(o, path, is_used)?;
    Ok(tls)
}

/// The same for a broker, whose certificate need not be valid for the host of its URL.
pub fn broker_tls(section: Option<ObjectReader<'_>>, path: &'static str, is_used: bool) -> Result<Tls> {
    let Some(o) = section else { return Ok(Tls::at(path)) };
    let mut tls = certificates(&o, path)?;
    if let Some(name) = o.text("serverName")? {
        let name = ServerName::try_from(name)
            .map_err(|_| o.wrong("serverName", "must be the name or the address of a host"))?;
        tls.server_name = Some(name);
    }
    tls.insecure = o.flag_or_default("insecure")?;
    tls.alpn = alpn(&o)?;
    finish(o, path, is_used)?;
    Ok(tls)
}

/// The longest name of a protocol: RFC 7301, 3.1.
const MAX_ALPN_BYTES: usize = 255;

fn alpn(o: &ObjectReader<'_>) -> Result<Vec<String>> {
    let check = |(path, name): (String, String)| match name.len() {
        1..=MAX_ALPN_BYTES => Ok(name),
        _ => Err(Error::config(path, format!("must have 1 to {MAX_ALPN_BYTES} bytes"))),
    };
    o.texts("alpn")?.into_iter().map(check).collect()
}

fn certificates(o: &ObjectReader<'_>, path: &'static str) -> Result<Tls> {
    let mut tls = Tls::at(path);
    tls.ca = pem(o, "ca")?;
    tls.identity = match (pem(o, "cert")?, pem(o, "key")?) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (Some(_), None) => return Err(o.wrong("key", "is needed: the key of cert")),
        (None, Some(_)) => return Err(o.wrong("cert", "is needed: the certificate of key")),
        (None, None) => None,
    };
    Ok(tls)
}

fn finish(o: ObjectReader<'_>, path: &'static str, is_used: bool) -> Result<()> {
    o.finish()?;
    if !is_used {
        // A user who gives certificates believes the connection to be encrypted.
        return Err(Error::config(path, "has no effect: no url is encrypted"));
    }
    Ok(())
}

fn pem(o: &ObjectReader<'_>, name: &str) -> Result<Option<Pem>> {
    let Some(text) = o.text(name)? else { return Ok(None) };
    let pem = Pem::new(text.clone());
    // A Buffer of DER that is read as text.
    let is_binary = text.starts_with("data:")
        || text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    if text.is_empty() || (is_binary && matches!(pem, Pem::File(_))) {
        return Err(o.wrong(name, "must be a text in PEM, or the path of a file that holds one"));
    }
    Ok(Some(pem))
}
