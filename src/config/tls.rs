//! The `tls` section of either side, as it was given. The files that it names are read by `crate::core::tls`.

use rustls::pki_types::ServerName;

use crate::config::object_reader::Options;
use crate::core::error::{Error, Result};
use crate::core::tls::{Identity, Pem, Tls};

/// `is_used`: whether any URL asks for TLS. `is_broker`: it has the options of that side too.
pub fn tls(section: Option<Options<'_>>, path: &'static str, is_used: bool, is_broker: bool) -> Result<Tls> {
    let mut tls = Tls::at(path);
    let Some(mut o) = section else { return Ok(tls) };
    tls.ca = pem(&mut o, "ca")?;
    tls.identity = match (pem(&mut o, "cert")?, pem(&mut o, "key")?) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (Some(_), None) => return Err(o.wrong("key", "is needed: the key of cert")),
        (None, Some(_)) => return Err(o.wrong("cert", "is needed: the certificate of key")),
        (None, None) => None,
    };
    if is_broker {
        if let Some(name) = o.string("serverName")? {
            let name = ServerName::try_from(name)
                .map_err(|_| o.wrong("serverName", "must be the name or the address of a host"))?;
            tls.server_name = Some(name);
        }
        tls.insecure = o.boolean("insecure")?.unwrap_or(false);
    }
    o.finish()?;
    if !is_used {
        // Whoever gives certificates believes the connection to be encrypted.
        return Err(Error::config(path, "has no effect: no url is encrypted"));
    }
    Ok(tls)
}

fn pem(o: &mut Options<'_>, name: &'static str) -> Result<Option<Pem>> {
    let Some(text) = o.string(name)? else { return Ok(None) };
    let pem = Pem::new(text.clone());
    // What a Buffer of DER looks like when it is read as text.
    let is_binary = text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    if text.is_empty() || (is_binary && matches!(pem, Pem::File(_))) {
        return Err(o.wrong(name, "must be a text in PEM, or the path of a file that holds one"));
    }
    Ok(Some(pem))
}
