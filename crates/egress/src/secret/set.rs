//! The secrets of a sandbox, with their values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use moat_core::Secret;
use zeroize::Zeroizing;

use super::forms::{Form, forms};
use super::placeholder::{LineageKey, Placeholder};
use super::rewrite::{Action, Texts};
use super::spec::SecretSpec;
use super::towards::Towards;
use crate::policy::check::{Check, is_on};
use crate::policy::{Denial, DenyReason, Host, Scheme};
use crate::sign::{AwsCredentials, AwsCredentialsError};

/// Bytes of the shortest value. A shorter one could not be told from other text.
const MIN_VALUE: usize = 8;
/// Guards that are kept.
const MAX_GUARDS: usize = 64;
/// Bytes of the longest value.
const MAX_VALUE: usize = 16 * 1024;

/// The secrets of a sandbox, with their values where there are some. Cheap to clone.
#[derive(Clone)]
pub struct SecretSet(pub(super) Arc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    pub(super) secrets: Vec<Known>,
    /// Values, to be replaced by placeholders in what comes in.
    pub(super) echoes: Option<Arc<Texts>>,
    /// What must not go out, by the secrets that may: there are few such groups, and many requests.
    guards: Mutex<BTreeMap<GuardKey, Option<Arc<Texts>>>>,
}

/// Numbers of the secrets that may go out, and which checks are made.
type GuardKey = (Vec<usize>, [bool; 2]);

impl Inner {
    fn guard_texts(&self, own: &[usize]) -> Option<Arc<Texts>> {
        let mut texts = Vec::new();
        for (number, secret) in self.secrets.iter().enumerate() {
            if is_on(Check::WrongPlace) && !own.contains(&number) {
                let name = secret.spec.name.clone();
                let text = Zeroizing::new(secret.placeholder.as_str().as_bytes().to_vec());
                texts.push((text, Action::Stop(SecretProblem::WrongPlace { name })));
            }
            texts.extend(secret.leaks());
        }
        Texts::new(texts).map(Arc::new)
    }
}

/// A secret with its value.
pub(super) struct Known {
    pub(super) spec: SecretSpec,
    pub(super) placeholder: Placeholder,
    pub(super) value: Option<Secret>,
    pub(super) credentials: Option<AwsCredentials>,
}

impl Known {
    /// What must not be seen: the value, or the secret parts of credentials.
    fn hidden(&self) -> Vec<&Secret> {
        match (&self.credentials, &self.value) {
            (Some(credentials), _) => credentials.hidden(),
            (None, value) => value.iter().collect(),
        }
    }

    fn forms(&self) -> Vec<(Form, Zeroizing<Vec<u8>>)> {
        self.hidden().into_iter().flat_map(|value| forms(value.expose())).collect()
    }

    /// Every form of it, as a reason to stop.
    fn leaks(&self) -> impl Iterator<Item = (Zeroizing<Vec<u8>>, Action)> {
        let name = self.spec.name.clone();
        let texts = if is_on(Check::Leak) { self.forms() } else { Vec::new() };
        texts.into_iter().map(move |(form, text)| {
            (text, Action::Stop(SecretProblem::Leak { name: name.clone(), form }))
        })
    }
}

/// No secrets.
impl Default for SecretSet {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Why values do not go with their secrets. Never carries a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretValueError {
    /// Too short or too long.
    #[error("the value of the secret `{0}` has to have {MIN_VALUE} to {MAX_VALUE} bytes")]
    Length(String),
    /// It has a line end or another control character, which no header or query may have.
    #[error("the value of the secret `{0}` has a line end or another control character inside")]
    Control(String),
    /// It is to sign and is no key.
    #[error("the value of the secret `{name}` cannot sign: {source}")]
    Credentials {
        /// The secret.
        name: String,
        /// What is wrong.
        source: AwsCredentialsError,
    },
    /// Together they are more than can be looked for.
    #[error("the secrets are too many or too long to be looked for")]
    TooMany,
}

impl SecretSet {
    /// Brings secrets and values together. A secret without a value keeps its placeholder, and a
    /// request that needs it is refused. A line end at the end of a value is taken off.
    ///
    /// # Errors
    ///
    /// A value cannot be put into a request, or cannot be told from other text.
    pub fn new(
        specs: &[SecretSpec],
        key: &LineageKey,
        mut values: BTreeMap<String, Secret>,
    ) -> Result<Self, SecretValueError> {
        let mut secrets = Vec::new();
        for spec in specs {
            let value = values.remove(&spec.name).map(|value| checked(spec, &value)).transpose()?;
            let credentials = match (&spec.sign, &value) {
                (Some(_), Some(value)) => Some(AwsCredentials::parse(value).map_err(|source| {
                    SecretValueError::Credentials { name: spec.name.clone(), source }
                })?),
                _ => None,
            };
            let placeholder = Placeholder::derive(key, &spec.name);
            secrets.push(Known { spec: spec.clone(), placeholder, value, credentials });
        }
        let mut echoes = Vec::new();
        for (number, secret) in secrets.iter().enumerate() {
            let placeholder = secret.placeholder.as_str().as_bytes().to_vec();
            for (_, form) in secret.forms() {
                let action = Action::Replace(Zeroizing::new(placeholder.clone()), number);
                echoes.push((form, action));
            }
        }
        let has_values = !echoes.is_empty();
        let echoes = Texts::new(echoes).map(Arc::new);
        if has_values && echoes.is_none() {
            return Err(SecretValueError::TooMany);
        }
        Ok(Self(Arc::new(Inner { secrets, echoes, guards: Mutex::default() })))
    }

    /// The environment variables that the sandbox gets: placeholders. A secret that signs has
    /// those that clients of Amazon Web Services look for beside its own.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for Known { spec, placeholder, .. } in &self.0.secrets {
            environment.insert(spec.name.clone(), placeholder.to_string());
            if let Some(scope) = &spec.sign {
                for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
                    environment.insert(variable.to_owned(), placeholder.to_string());
                }
                if let Some((region, _)) = &scope.region_and_service {
                    environment.insert("AWS_REGION".to_owned(), region.clone());
                }
            }
        }
        environment
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.secrets.is_empty()
    }

    /// The secrets as a request to a host sees them.
    pub fn towards(&self, host: &Host, port: u16, scheme: Scheme) -> Towards {
        Towards::new(self.clone(), host, port, scheme)
    }

    /// What must not go out where these secrets may.
    pub(super) fn guard(&self, own: &[usize]) -> Option<Arc<Texts>> {
        let key = (own.to_vec(), [is_on(Check::WrongPlace), is_on(Check::Leak)]);
        let mut guards = self.0.guards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guards.get(&key) {
            return guard.clone();
        }
        if guards.len() >= MAX_GUARDS {
            guards.clear();
        }
        let guard = self.0.guard_texts(own);
        guards.insert(key, guard.clone());
        guard
    }

    pub(super) fn names(&self, numbers: &[usize]) -> Vec<String> {
        let secrets = numbers.iter().filter_map(|number| self.0.secrets.get(*number));
        secrets.map(|secret| secret.spec.name.clone()).collect()
    }
}

/// Shows names only.
impl fmt::Debug for SecretSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.secrets.iter().map(|secret| &secret.spec.name)).finish()
    }
}

fn checked(spec: &SecretSpec, value: &Secret) -> Result<Secret, SecretValueError> {
    let text = value.expose();
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if !(MIN_VALUE..=MAX_VALUE).contains(&text.len()) {
        return Err(SecretValueError::Length(spec.name.clone()));
    }
    if text.contains(char::is_control) {
        return Err(SecretValueError::Control(spec.name.clone()));
    }
    Ok(Secret::new(text))
}

/// Why a request may not be sent because of secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// A placeholder on its way to a host that its secret is not for.
    #[error("the placeholder of the secret `{name}` is on its way to a host that it is not for")]
    WrongPlace {
        /// The secret.
        name: String,
    },
    /// A value on its way out.
    #[error("the value of the secret `{name}` is on its way out, {form}")]
    Leak {
        /// The secret.
        name: String,
        /// In which form.
        form: Form,
    },
    /// The request needs a secret that has no value here.
    #[error("the secret `{name}` has no value here")]
    Missing {
        /// The secret.
        name: String,
    },
    /// The part of a request that secrets are put into is larger than is looked at.
    #[error("a body that secrets are put into has at most {0} bytes")]
    TooLarge(usize),
}

impl SecretProblem {
    /// As a denial towards a host.
    pub fn denial(&self, host: &Host) -> Denial {
        let (reason, advice) = match self {
            Self::WrongPlace { name } => (
                DenyReason::SecretWrongPlace,
                format!("; allow with `--secret {name}=…@{host}`, if it is meant for it"),
            ),
            Self::Leak { .. } => (DenyReason::SecretLeak, String::new()),
            Self::Missing { name } => (
                DenyReason::SecretMissing,
                format!("; give it with `--secret {name}=env:VARIABLE@{host}`"),
            ),
            Self::TooLarge(_) => (DenyReason::UploadTooLarge, String::new()),
        };
        Denial { reason, rule: None, teach: format!("denied: {host}: {self}{advice}") }
    }
}
