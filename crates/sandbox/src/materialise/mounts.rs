//! Mounts of a manifest as what whoever mounts is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moat_core::{MountRecord, MountSource, RemoteRecord};

use super::WORKSPACE;
use crate::manifest::{
    AzureBlobMount, GcsMount, ManifestEntry, MountPlace, MountStrategy, R2Mount, RcloneMount,
    S3Mount, SecretReference, SharedMount, Sharing, parts,
};

/// Folders of a sandbox, beside its workspace, beneath which something can be mounted.
const PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/data"];

/// What a mount's strategy asks for.
pub(super) enum Wanted {
    Mount(MountRecord),
    Copy(RemoteRecord),
}

/// Where a mount is to be, if the entry is one.
pub(super) fn target(
    entry: &ManifestEntry,
    above: &[String],
    path: &str,
) -> Option<Result<String, String>> {
    let given = match entry {
        ManifestEntry::SharedMount(shared) => shared.mount_path.as_deref(),
        entry => place(entry)?.path,
    };
    Some(target_of(given, above, path))
}

fn target_of(given: Option<&str>, above: &[String], path: &str) -> Result<String, String> {
    let whole = match given {
        Some(given) if given.starts_with('/') => {
            let parts = parts(given.trim_start_matches('/')).map_err(|error| error.to_string());
            let whole = Path::new("/").join(parts?.iter().collect::<PathBuf>());
            let is_possible = PLACES
                .iter()
                .chain([&WORKSPACE])
                .any(|place| whole.starts_with(place) && whole != Path::new(place));
            if !is_possible {
                return Err(format!(
                    "has the `mount_path` `{}`, which is beneath neither the workspace nor {}",
                    given.escape_debug(),
                    PLACES.join(", ")
                ));
            }
            whole
        }
        given => {
            let mut whole = PathBuf::from(WORKSPACE);
            match given {
                Some(given) => whole.extend(parts(given).map_err(|error| error.to_string())?),
                None => {
                    whole.extend(above);
                    whole.extend(parts(path).map_err(|error| error.to_string())?);
                }
            }
            if whole == Path::new(WORKSPACE) {
                return Err("cannot be mounted over the workspace itself".to_owned());
            }
            whole
        }
    };
    Ok(whole.display().to_string())
}

fn place(entry: &ManifestEntry) -> Option<MountPlace<'_>> {
    match entry {
        ManifestEntry::S3Mount(mount) => Some(mount.place()),
        ManifestEntry::GcsMount(mount) => Some(mount.place()),
        ManifestEntry::R2Mount(mount) => Some(mount.place()),
        ManifestEntry::AzureBlobMount(mount) => Some(mount.place()),
        ManifestEntry::RcloneMount(mount) => Some(mount.place()),
        _ => None,
    }
}

/// What is to be mounted at `target`, or copied; the problem is the rest of a sentence.
pub(super) fn record(entry: &ManifestEntry, target: String) -> Result<Wanted, String> {
    let remote = match entry {
        ManifestEntry::S3Mount(mount) => s3(mount)?,
        ManifestEntry::GcsMount(mount) => gcs(mount)?,
        ManifestEntry::R2Mount(mount) => r2(mount)?,
        ManifestEntry::AzureBlobMount(mount) => azure(mount)?,
        ManifestEntry::RcloneMount(mount) => rclone(mount)?,
        ManifestEntry::SharedMount(shared) => {
            return shared_folder(shared, target).map(Wanted::Mount);
        }
        _ => return Err("is no mount".to_owned()),
    };
    check_remote(&remote)?;
    let place = place(entry);
    let read_only = place.is_none_or(|place| place.read_only);
    match place.map(|place| place.strategy).unwrap_or_default() {
        MountStrategy::Copy if place.is_some_and(|place| place.path.is_some()) => {
            Err("is copied, and has a `mount_path`; copies are at their entry's place".to_owned())
        }
        MountStrategy::Copy => Ok(Wanted::Copy(remote)),
        MountStrategy::Mount => {
            let source = MountSource::Remote(remote);
            Ok(Wanted::Mount(MountRecord { path: target, read_only, source }))
        }
    }
}

fn shared_folder(shared: &SharedMount, path: String) -> Result<MountRecord, String> {
    let SharedMount { name, sharing, .. } = shared;
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || name.len() > 64 || !name.bytes().all(letters) {
        return Err("has a `name` that is none: 1 to 64 letters, digits, `_`, `-` and `.`".into());
    }
    let word = match sharing {
        Sharing::ReadOnly => "read_only",
        Sharing::Lock => "lock",
        Sharing::CopyOnWrite => "copy_on_write",
    };
    let source = MountSource::Shared { name: name.clone(), sharing: word.to_owned() };
    Ok(MountRecord { path, read_only: *sharing == Sharing::ReadOnly, source })
}

/// Settings in the making.
#[derive(Default)]
struct Settings {
    options: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

impl Settings {
    fn set(mut self, name: &str, value: Option<&str>) -> Self {
        self.options.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    fn secret(mut self, name: &str, reference: Option<&SecretReference>) -> Self {
        self.secrets.extend(reference.map(|r| (name.to_owned(), r.secret.clone())));
        self
    }

    fn at(self, backend: &str, bucket: &str, prefix: Option<&str>) -> Result<RemoteRecord, String> {
        let is_name = |text: &str| {
            !text.is_empty() && !text.starts_with(['-', '.']) && !text.contains(['/', ':', '\\'])
        };
        if !is_name(bucket) {
            return Err(format!(
                "has a bucket or container that is none: `{}`",
                bucket.escape_debug()
            ));
        }
        let mut path = bucket.to_owned();
        for part in
            prefix.map(parts).transpose().map_err(|error| error.to_string())?.into_iter().flatten()
        {
            path.push('/');
            path.push_str(&part);
        }
        let Self { options, secrets } = self;
        Ok(RemoteRecord { backend: backend.to_owned(), path, options, secrets })
    }
}

fn both(one: Option<&SecretReference>, other: Option<&SecretReference>) -> Result<(), String> {
    if one.is_some() == other.is_some() {
        return Ok(());
    }
    Err("has one half of a key; give the id and the key itself".to_owned())
}

fn s3(mount: &S3Mount) -> Result<RemoteRecord, String> {
    both(mount.access_key_id.as_ref(), mount.secret_access_key.as_ref())?;
    let default = if mount.endpoint_url.is_some() { "Other" } else { "AWS" };
    // Rclone asks whether a bucket is there, and makes it; most keys may do neither.
    Settings::default()
        .set("provider", Some(mount.s3_provider.as_deref().unwrap_or(default)))
        .set("region", mount.region.as_deref())
        .set("endpoint", mount.endpoint_url.as_deref())
        .set("no_check_bucket", Some("true"))
        .set("force_path_style", mount.endpoint_url.as_ref().map(|_| "true"))
        .secret("access_key_id", mount.access_key_id.as_ref())
        .secret("secret_access_key", mount.secret_access_key.as_ref())
        .secret("session_token", mount.session_token.as_ref())
        .at("s3", &mount.bucket, mount.prefix.as_deref())
}

fn gcs(mount: &GcsMount) -> Result<RemoteRecord, String> {
    both(mount.access_id.as_ref(), mount.secret_access_key.as_ref())?;
    let prefix = mount.prefix.as_deref();
    if mount.access_id.is_some() {
        if mount.service_account.is_some() {
            return Err("has a service account and an HMAC key; give one of them".to_owned());
        }
        let endpoint = mount.endpoint_url.as_deref().unwrap_or("https://storage.googleapis.com");
        return Settings::default()
            .set("provider", Some("GCS"))
            .set("endpoint", Some(endpoint))
            .set("no_check_bucket", Some("true"))
            .secret("access_key_id", mount.access_id.as_ref())
            .secret("secret_access_key", mount.secret_access_key.as_ref())
            .at("s3", &mount.bucket, prefix);
    }
    Settings::default()
        .set("bucket_policy_only", Some("true"))
        .set("no_check_bucket", Some("true"))
        .set("endpoint", mount.endpoint_url.as_deref())
        .set("anonymous", mount.service_account.is_none().then_some("true"))
        .secret("service_account_credentials", mount.service_account.as_ref())
        .at("google cloud storage", &mount.bucket, prefix)
}

fn r2(mount: &R2Mount) -> Result<RemoteRecord, String> {
    both(mount.access_key_id.as_ref(), mount.secret_access_key.as_ref())?;
    let is_id = mount.account_id.bytes().all(|b| b.is_ascii_alphanumeric());
    if mount.account_id.is_empty() || !is_id {
        return Err("has an `account_id` of other than letters and digits".to_owned());
    }
    let own = format!("https://{}.r2.cloudflarestorage.com", mount.account_id);
    Settings::default()
        .set("provider", Some("Cloudflare"))
        .set("region", Some("auto"))
        .set("endpoint", Some(mount.endpoint_url.as_deref().unwrap_or(&own)))
        .set("no_check_bucket", Some("true"))
        .secret("access_key_id", mount.access_key_id.as_ref())
        .secret("secret_access_key", mount.secret_access_key.as_ref())
        .at("s3", &mount.bucket, mount.prefix.as_deref())
}

fn azure(mount: &AzureBlobMount) -> Result<RemoteRecord, String> {
    if mount.account_key.is_some() && mount.sas_url.is_some() {
        return Err("has a key and a signed address; give one of them".to_owned());
    }
    let endpoint = mount.endpoint.as_deref().map(|given| azure_host(given, &mount.account));
    Settings::default()
        .set("account", Some(&mount.account))
        .set("endpoint", endpoint.transpose()?.as_deref())
        .secret("key", mount.account_key.as_ref())
        .secret("sas_url", mount.sas_url.as_ref())
        .at("azureblob", &mount.container, mount.prefix.as_deref())
}

/// Rclone puts the account before the host, and speaks TLS; another form of an address would become a
/// host that is none.
fn azure_host(given: &str, account: &str) -> Result<String, String> {
    let host = given.strip_prefix("https://").unwrap_or(given).trim_end_matches('/');
    let host = host.strip_prefix(&format!("{account}.")).unwrap_or(host);
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
        && host.split(':').next().is_some_and(|name| name.parse::<std::net::Ipv4Addr>().is_err());
    if is_host {
        return Ok(host.to_owned());
    }
    Err(format!(
        "has the `endpoint` `{}`; with a key that is a host, which has the account before it and is \
         reached by https (`https://{account}.HOST`); any other address is given as a `sas_url`",
        given.escape_debug()
    ))
}

fn rclone(mount: &RcloneMount) -> Result<RemoteRecord, String> {
    let secrets = mount.secrets.iter().map(|(name, r)| (name.clone(), r.secret.clone()));
    Ok(RemoteRecord {
        backend: mount.backend.clone(),
        path: mount.path.clone(),
        options: mount.options.clone(),
        secrets: secrets.collect(),
    })
}

/// Kinds of rclone that are no storage elsewhere: they would read this machine, or say what
/// programs are run.
const OF_THIS_MACHINE: [&str; 12] = [
    "local", "alias", "cache", "chunker", "combine", "compress", "crypt", "hasher", "memory",
    "union", "archive", "raid3",
];

/// Settings of rclone that run a program, or read a file of this machine.
const FORBIDDEN: [&str; 14] = [
    "ssh",
    "command",
    "bearer_token_command",
    "shell_type",
    "key_file",
    "known_hosts_file",
    "service_account_file",
    "service_principal_file",
    "shared_credentials_file",
    "env_auth",
    "config_credentials",
    "box_config_file",
    "client_certificate_path",
    "pubkey_file",
];

fn check_remote(remote: &RemoteRecord) -> Result<(), String> {
    let is_plain = |text: &str| {
        !text.is_empty() && !text.starts_with('-') && !text.contains(['\n', '\r', '\0'])
    };
    if !is_plain(&remote.backend) || remote.backend.contains([':', ',', '/']) {
        return Err(format!("has a `backend` that is none: `{}`", remote.backend.escape_debug()));
    }
    if OF_THIS_MACHINE.contains(&remote.backend.as_str()) {
        return Err(format!("has the `backend` `{}`, which reads this machine", remote.backend));
    }
    let names = remote.options.keys().chain(remote.secrets.keys());
    for name in names {
        let is_name =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name || name.is_empty() || FORBIDDEN.contains(&name.as_str()) {
            return Err(format!(
                "has the setting `{}`, which would read a file or run a program here, or is none",
                name.escape_debug()
            ));
        }
    }
    if remote.options.values().chain([&remote.path]).any(|v| v.contains(['\n', '\r', '\0'])) {
        return Err("has a setting of several lines".to_owned());
    }
    Ok(())
}
