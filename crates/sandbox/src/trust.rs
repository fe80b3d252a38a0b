//! Which certificate authorities programs inside trust: those of the system that they see, and one
//! of the sandbox's own.
//!
//! The bundle is shown at a path of ours, and variables name it for programs that bring their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of the sandbox's own authorities.
const MAX_AUTHORITY: usize = 64 << 10;

/// Where the bundle is inside, as certificates in text and as a store of Java's.
pub const PEM: &str = "/moat/ca-certificates.crt";
/// See [`PEM`].
pub const JAVA: &str = "/moat/ca-certificates.jks";

/// Variables that name a bundle which replaces or extends what a program trusts by itself.
const VARIABLES: [&str; 11] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
];

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Where systems have all authorities in one file, the most usual first.
pub const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
];

/// Bytes of a bundle that are read.
pub const MAX_BUNDLE: u64 = 4 << 20;

/// Why somebody cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TrustError(&'static str);

/// What a system trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pem: Vec<u8>,
    /// Entries of a store of Java's, and how many.
    java: (Vec<u8>, u32),
}

impl Trust {
    /// The authorities of a bundle; an empty one trusts nobody.
    pub fn new(pem: Vec<u8>) -> Self {
        let java = java_entries(&String::from_utf8_lossy(&pem), 0).unwrap_or_default();
        Self { pem, java }
    }

    /// Everything that is trusted inside: the system's authorities and these.
    ///
    /// # Errors
    /// It is no certificate in PEM, too long, or has a private key beside it.
    pub fn with(&self, authority: &[u8]) -> Result<Bundle, TrustError> {
        let refused = TrustError;
        let text = str::from_utf8(authority).map_err(|_| refused("it is no text"))?;
        if text.len() > MAX_AUTHORITY {
            return Err(refused("it is over 64 KiB"));
        }
        if text.contains("PRIVATE KEY") {
            return Err(refused("a private key stands beside the certificate"));
        }
        let (entries, count) = java_entries(text, self.java.1)
            .filter(|(_, count)| *count > 0)
            .ok_or_else(|| refused("it is no certificate in PEM"))?;
        let mut pem = self.pem.clone();
        if !pem.is_empty() && !pem.ends_with(b"\n") {
            pem.push(b'\n');
        }
        pem.extend_from_slice(authority);
        let java = java_store(self.java.1 + count, &[&self.java.0, &entries]);
        Ok(Bundle { pem, java })
    }
}

/// What is trusted inside.
#[derive(Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Certificates as text.
    pub pem: Vec<u8>,
    /// The same as a store of Java's.
    pub java: Vec<u8>,
}

/// Variables by which programs find the bundle.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let java = format!("-Djavax.net.ssl.trustStore={JAVA} -Djavax.net.ssl.trustStoreType=JKS");
    let named = VARIABLES.iter().map(|name| ((*name).to_owned(), PEM.to_owned()));
    named.chain([("JAVA_TOOL_OPTIONS".to_owned(), java)])
}

/// Entries of a store of Java's for the certificates of a text; names are numbers from `first` on.
fn java_entries(pem: &str, first: u32) -> Option<(Vec<u8>, u32)> {
    let mut entries = Vec::with_capacity(pem.len());
    let mut count = 0;
    for block in pem.split(BEGIN).skip(1) {
        let (body, _) = block.split_once(END)?;
        let body: String = body.split_ascii_whitespace().collect();
        let certificate = STANDARD.decode(body).ok()?;
        // A trusted certificate, since no particular moment.
        entries.extend_from_slice(&2_u32.to_be_bytes());
        put_text(&mut entries, &format!("moat-{}", first + count));
        entries.extend_from_slice(&0_u64.to_be_bytes());
        put_text(&mut entries, "X.509");
        entries.extend_from_slice(&u32::try_from(certificate.len()).ok()?.to_be_bytes());
        entries.extend_from_slice(&certificate);
        count += 1;
    }
    Some((entries, count))
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u16).to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// The format that every version of Java reads (`JKS`). Without a password, as here, its digest is
/// not looked at.
fn java_store(count: u32, entries: &[&[u8]]) -> Vec<u8> {
    let mut store = Vec::with_capacity(entries.iter().map(|part| part.len()).sum::<usize>() + 32);
    for word in [0xfeed_feed_u32, 2, count] {
        store.extend_from_slice(&word.to_be_bytes());
    }
    entries.iter().for_each(|part| store.extend_from_slice(part));
    store.extend_from_slice(&[0; 20]);
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn the_sandboxes_authority_stands_behind_the_hosts() {
        let host = Trust::new(ONE.trim_end().into());
        let bundle = host.with(ONE.as_bytes()).unwrap();
        assert_eq!(bundle.pem, format!("{ONE}{ONE}").into_bytes());
        let entry = |name: &[u8]| {
            [b"\0\0\0\x02\0\x06", name, &[0; 8], b"\0\x05X.509\0\0\0\x03\x01\x02\x03"].concat()
        };
        let start = b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x02";
        let store = [start, &entry(b"moat-0")[..], &entry(b"moat-1"), &[0; 20]].concat();
        assert_eq!(bundle.java, store);
    }

    #[test]
    fn keys_and_what_is_no_certificate_are_refused() {
        let host = Trust::default();
        let key = format!("{ONE}-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n");
        assert!(host.with(key.as_bytes()).unwrap_err().0.contains("private key"));
        for bad in ["", "x", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", BEGIN] {
            assert!(host.with(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
