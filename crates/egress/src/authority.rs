//! The certificate authority of one sandbox. Nobody else trusts it, so it is not constrained to
//! names: what is opened, and which refusals have to be said in TLS, follows from a policy that may
//! change while the authority stays.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::policy::Host;

const DAY: u64 = 24 * 3600;
/// How long the authority is valid, in seconds: longer than any run sleeps.
const AUTHORITY_LIFE: u64 = 5 * 365 * DAY;
/// How long the certificate of a host is valid, in seconds.
const HOST_LIFE: u64 = 30 * DAY;
/// Certificates that are kept.
const MAX_CERTIFICATES: usize = 512;
const NAME: &str = "Moat sandbox authority";

/// Why an authority could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key or certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
    /// What was saved is no authority.
    #[error("the saved authority cannot be read: {0}")]
    Load(String),
}

/// An authority as it is stored. It holds the key: encrypt it.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedAuthority {
    /// The certificate (DER).
    certificate: Vec<u8>,
    /// The key (PKCS #8).
    key: Vec<u8>,
}

impl Drop for SavedAuthority {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for SavedAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SavedAuthority(..)")
    }
}

/// Makes the certificates with which TLS of a sandbox is opened. Trusted only inside it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
    leaf: KeyPair,
    made: Mutex<HashMap<Host, Made>>,
}

#[derive(Clone)]
struct Made {
    key: Arc<CertifiedKey>,
    until: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl Authority {
    /// A fresh one (ECDSA P-256).
    pub fn generate() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let now = now();
        let mut params = authority_params();
        valid(&mut params, now, AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(make)?.der().clone();
        Self::new(certificate, key)
    }

    /// The one that was saved.
    pub fn load(saved: &SavedAuthority) -> Result<Self, AuthorityError> {
        let load = |error: &dyn fmt::Display| AuthorityError::Load(error.to_string());
        let der = PrivatePkcs8KeyDer::from(saved.key.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| load(&error))?;
        let certificate = CertificateDer::from(saved.certificate.clone());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).map_err(|error| load(&error))?;
        Self::new(certificate, key)
    }

    /// What [`Authority::load`] needs.
    pub fn save(&self) -> SavedAuthority {
        SavedAuthority { certificate: self.certificate.to_vec(), key: self.key.to_vec() }
    }

    /// The certificate, for those inside who are to trust it (PEM).
    pub fn certificate_pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, AuthorityError> {
        let leaf = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let saved = Zeroizing::new(key.serialize_der());
        let issuer = Issuer::new(authority_params(), key);
        Ok(Self { issuer, certificate, key: saved, leaf, made: Mutex::default() })
    }

    /// The certificate for a host with its key, made now if there is none.
    pub(crate) fn certified(&self, host: &Host) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let now = now();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = made.get(host).filter(|kept| kept.until > now) {
            return Ok(Arc::clone(&kept.key));
        }
        if made.len() >= MAX_CERTIFICATES {
            made.clear();
        }
        let key = Arc::new(self.issue(host, now)?);
        let until = now + HOST_LIFE - DAY;
        made.insert(host.clone(), Made { key: Arc::clone(&key), until });
        Ok(key)
    }

    fn issue(&self, host: &Host, now: u64) -> Result<CertifiedKey, AuthorityError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![alternative_name(host)?];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name(host));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, HOST_LIFE);
        let certificate = params.signed_by(&self.leaf, &self.issuer).map_err(make)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf.serialize_der()));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key)
            .map_err(|error| AuthorityError::Make(error.to_string()))?;
        Ok(CertifiedKey::new(vec![certificate.der().clone(), self.certificate.clone()], key))
    }
}

fn alternative_name(host: &Host) -> Result<SanType, AuthorityError> {
    Ok(match host {
        Host::Name(name) => SanType::DnsName(name.as_str().to_owned().try_into().map_err(make)?),
        Host::Address(address) => SanType::IpAddress(IpAddr::clone(address)),
    })
}

/// At most 64 characters, as the standard has it.
fn common_name(host: &Host) -> String {
    let text = host.to_string();
    if text.len() <= 64 { text } else { "sandbox".to_owned() }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Make(error.to_string())
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().max(2 * DAY)
}

/// From a day before, for clocks that are behind.
fn valid(params: &mut CertificateParams, now: u64, life: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(DAY));
    params.not_after = epoch + Duration::from_secs(now.saturating_add(life));
}

#[cfg(test)]
mod tests;
