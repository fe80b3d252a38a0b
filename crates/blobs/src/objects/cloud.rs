//! Objects in a bucket: S3 and what speaks its language, Google Cloud Storage, Azure.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig,
};

use super::{Lease, ListedObject, ObjectError, Objects, check_name, now_ms};

const LEASES: &str = "leases";
/// A lease that is older belongs to somebody who died: those who live replace theirs.
const DEAD_AFTER: u64 = 24 * 3600 * 1000;
/// Objects that one listing may have.
const MOST_LISTED: usize = 4_000_000;
const CONNECT: Duration = Duration::from_secs(10);
/// One request, with its bytes.
const REQUEST: Duration = Duration::from_secs(120);
const RETRIES: usize = 6;
const RETRY_FOR: Duration = Duration::from_secs(90);

/// Where a bucket is, and how it is reached.
#[derive(Clone, Default)]
pub struct CloudOptions {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    pub url: String,
    /// Settings by the names that the clients of these stores use (`aws_access_key_id`,
    /// `aws_endpoint`, `azure_storage_account_name`, `google_service_account`, …). Those that a
    /// store does not know are left alone.
    pub settings: Vec<(String, String)>,
}

/// Objects in a bucket. Cloning is cheap.
#[derive(Clone)]
pub struct CloudObjects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    place: String,
}

impl CloudObjects {
    /// Uses a bucket that exists. Does no I/O.
    ///
    /// # Errors
    ///
    /// The address is none, its kind was left out of this build, or a setting is missing.
    pub fn open(options: &CloudOptions) -> Result<Self, ObjectError> {
        // The client takes what is installed; somebody else may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |reason: &dyn Display| ObjectError::Refused {
            place: shown(&options.url),
            reason: reason.to_string(),
        };
        let (scheme, rest) = options
            .url
            .split_once("://")
            .ok_or_else(|| wrong(&"it is no address; write `s3://bucket/prefix`"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || bucket.contains(['@', '?', '#']) || prefix.contains(['?', '#']) {
            return Err(wrong(&"it names no bucket"));
        }
        let store = build(scheme, bucket, &options.settings).map_err(|error| wrong(&error))?;
        Ok(Self { store, prefix: prefix.to_owned(), place: shown(&options.url) })
    }

    fn path(&self, name: &str) -> Result<Path, ObjectError> {
        check_name(name)?;
        Ok(if self.prefix.is_empty() {
            Path::from(name)
        } else {
            Path::from(format!("{}/{name}", self.prefix))
        })
    }

    fn failed(&self, doing: &'static str, name: &str, error: Error) -> ObjectError {
        let (place, name) = (self.place.clone(), name.to_owned());
        match error {
            Error::NotFound { .. } => ObjectError::Missing { place, name },
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
                ObjectError::Refused { place, reason: source.to_string() }
            }
            error => ObjectError::Failed { doing, place, name, source: Box::new(error) },
        }
    }
}

fn shown(url: &str) -> String {
    format!("`{url}`")
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES,
        retry_timeout: RETRY_FOR,
    }
}

fn client() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST)
}

/// The settings that a store's client knows.
fn known<K: FromStr>(settings: &[(String, String)]) -> impl Iterator<Item = (K, &str)> {
    settings
        .iter()
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
}

fn build(
    scheme: &str,
    bucket: &str,
    settings: &[(String, String)],
) -> Result<Arc<dyn ObjectStore>, Error> {
    match scheme {
        #[cfg(feature = "aws")]
        "s3" => {
            let builder = object_store::aws::AmazonS3Builder::new()
                .with_client_options(client())
                .with_retry(retry());
            let builder =
                known(settings).fold(builder, |b, (key, value)| b.with_config(key, value));
            Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
        }
        #[cfg(feature = "gcp")]
        "gs" => {
            let builder = object_store::gcp::GoogleCloudStorageBuilder::new()
                .with_client_options(client())
                .with_retry(retry());
            let builder =
                known(settings).fold(builder, |b, (key, value)| b.with_config(key, value));
            Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
        }
        #[cfg(feature = "azure")]
        "az" => {
            let builder = object_store::azure::MicrosoftAzureBuilder::new()
                .with_client_options(client())
                .with_retry(retry());
            let builder =
                known(settings).fold(builder, |b, (key, value)| b.with_config(key, value));
            Ok(Arc::new(builder.with_container_name(bucket).build()?))
        }
        other => Err(Error::NotSupported {
            source: format!("`{other}://` is not a kind of store that this build knows").into(),
        }),
    }
}

#[async_trait]
impl Objects for CloudObjects {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn is_near(&self) -> bool {
        false
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        let path = self.path(name)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", name, error)),
        }
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError> {
        let path = self.path(name)?;
        let failed = |error| self.failed("read", name, error);
        let found = self.store.get(&path).await.map_err(failed)?;
        let size = found.meta.size;
        if size > limit {
            let (place, name) = (self.place.clone(), name.to_owned());
            return Err(ObjectError::TooLarge { place, name, size, limit });
        }
        found.bytes().await.map_err(failed)
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let path = self.path(name)?;
        let failed = |error| self.failed("read", name, error);
        let end = offset.saturating_add(length);
        if length > 0 {
            match self.store.get_range(&path, offset..end).await {
                Ok(bytes) => return Ok(bytes),
                Err(error @ Error::NotFound { .. }) => return Err(failed(error)),
                // Perhaps because nothing is there: stores differ in how they say so.
                Err(_) => {}
            }
        }
        let size = self.store.head(&path).await.map_err(failed)?.size;
        if offset >= size || length == 0 {
            return Ok(Bytes::new());
        }
        self.store.get_range(&path, offset..end.min(size)).await.map_err(failed)
    }

    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError> {
        let path = self.path(folder)?;
        let failed = |error| self.failed("list", folder, error);
        let mut objects = self.store.list(Some(&path));
        let mut listed = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            let Some(file) = object.location.as_ref().strip_prefix(path.as_ref()) else { continue };
            let name = format!("{folder}{file}");
            let is_ours = file.matches('/').count() == 1 && check_name(&name).is_ok();
            if is_ours {
                listed.push(ListedObject { name, size: object.size });
            }
            if listed.len() > MOST_LISTED {
                let source = format!("it has more than {MOST_LISTED} objects").into();
                return Err(failed(Error::Generic { store: "bucket", source }));
            }
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    async fn remove(&self, name: &str) -> Result<bool, ObjectError> {
        let path = self.path(name)?;
        // Most stores do not say whether it was there.
        match self.store.head(&path).await {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.failed("remove", name, error)),
        }
        match self.store.delete(&path).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("remove", name, error)),
        }
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError> {
        let mut random = [0; 8];
        let failed = |error: getrandom::Error| {
            let source = Box::new(std::io::Error::other(error));
            self.failed("write", LEASES, Error::Generic { store: "bucket", source })
        };
        getrandom::fill(&mut random).map_err(failed)?;
        let began = now_ms();
        let name = format!("{LEASES}/{began}-{:016x}", u64::from_le_bytes(random));
        self.create(&name, Bytes::new()).await?;
        Ok(Box::new(CloudLease { objects: self.clone(), began, name }))
    }

    async fn leases(&self) -> Result<Vec<u64>, ObjectError> {
        let now = now_ms();
        let mut began = Vec::new();
        for listed in self.list(LEASES).await? {
            let name = listed.name.rsplit('/').next().and_then(|name| name.split_once('-'));
            let Some(at) = name.and_then(|(at, _)| at.parse::<u64>().ok()) else { continue };
            if now.saturating_sub(at) > DEAD_AFTER {
                self.remove(&listed.name).await?;
            } else {
                began.push(at);
            }
        }
        Ok(began)
    }

    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError> {
        Ok(None)
    }
}

/// An object that says that somebody writes.
struct CloudLease {
    objects: CloudObjects,
    began: u64,
    name: String,
}

impl Lease for CloudLease {
    fn began(&self) -> u64 {
        self.began
    }
}

impl Drop for CloudLease {
    fn drop(&mut self) {
        // Ends with the runtime at the latest; then the lease is found dead after a day.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (objects, name) = (self.objects.clone(), std::mem::take(&mut self.name));
            runtime.spawn(async move {
                let _ = objects.remove(&name).await;
            });
        }
    }
}
