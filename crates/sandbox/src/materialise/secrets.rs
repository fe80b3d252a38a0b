//! Which paths are likely secrets, as data.

use crate::manifest::IgnoreRules;

/// A pattern that names likely secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// In the syntax of `.gitignore`.
    pub pattern: &'static str,
    /// What such a file usually holds.
    pub reason: &'static str,
}

const fn name(pattern: &'static str, reason: &'static str) -> SecretName {
    SecretName { pattern, reason }
}

/// Paths that are left out by their name alone, unless the manifest allows them.
pub const SECRET_NAMES: &[SecretName] = &[
    name(".env", "environment with keys and passwords"),
    name(".env.*", "environment with keys and passwords"),
    name("*.env", "environment with keys and passwords"),
    name(".envrc.local", "environment with keys and passwords"),
    name("*.pem", "private key or certificate"),
    name("*.key", "private key"),
    name("*.p12", "private key"),
    name("*.pfx", "private key"),
    name("*.jks", "Java key store"),
    name("*.keystore", "Java key store"),
    name("*.ppk", "private key"),
    name("*.kdbx", "password safe"),
    name("id_rsa*", "SSH key"),
    name("id_dsa*", "SSH key"),
    name("id_ecdsa*", "SSH key"),
    name("id_ed25519*", "SSH key"),
    name(".ssh/", "SSH keys"),
    name(".gnupg/", "PGP keys"),
    name(".aws/", "AWS credentials"),
    name(".azure/", "Azure credentials"),
    name(".config/gcloud/", "Google Cloud credentials"),
    name(".kube/config", "Kubernetes credentials"),
    name("kubeconfig", "Kubernetes credentials"),
    name(".docker/config.json", "registry credentials"),
    name(".dockercfg", "registry credentials"),
    name(".npmrc", "registry token"),
    name(".yarnrc.yml", "registry token"),
    name(".pypirc", "registry password"),
    name(".cargo/credentials", "registry token"),
    name(".cargo/credentials.toml", "registry token"),
    name(".gem/credentials", "registry token"),
    name(".netrc", "passwords of hosts"),
    name("_netrc", "passwords of hosts"),
    name(".pgpass", "database password"),
    name(".my.cnf", "database password"),
    name(".htpasswd", "password hashes"),
    name(".git-credentials", "passwords of git hosts"),
    name(".git/credentials", "passwords of git hosts"),
    name("credentials", "credentials"),
    name("credentials.json", "credentials"),
    name("credentials.y*ml", "credentials"),
    name("credentials.toml", "credentials"),
    name("credentials.csv", "credentials"),
    name("service-account*.json", "service account key"),
    name("service_account*.json", "service account key"),
    name("*-service-account.json", "service account key"),
    name("client_secret*.json", "OAuth client secret"),
    name("secrets.json", "secrets"),
    name("secrets.y*ml", "secrets"),
    name("secrets.toml", "secrets"),
    name("*.tfstate", "Terraform state, which holds secrets in clear"),
    name("*.tfvars", "Terraform variables"),
    name(".terraformrc", "Terraform token"),
    name(".vault-token", "Vault token"),
    name(".boto", "cloud credentials"),
    name(".s3cfg", "cloud credentials"),
];

/// What looks like one of [`SECRET_NAMES`] and is there to be read.
const EXAMPLES: &[&str] = &[
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    ".env.defaults",
    "example.env",
    "sample.env",
    "template.env",
    "*.example.env",
];

/// The rules, ready to be asked.
pub(super) struct SecretRules {
    names: Vec<NameRule>,
    allowed: IgnoreRules,
}

struct NameRule {
    rules: IgnoreRules,
    /// The pattern has two parts; it is meant at any depth all the same.
    has_folder: bool,
    reason: &'static str,
}

impl SecretRules {
    /// `allow` are patterns of paths that are taken in all the same.
    pub(super) fn new(allow: &[String]) -> Self {
        let mut allowed = IgnoreRules::from_lines(EXAMPLES.iter().copied());
        allowed.extend(IgnoreRules::from_lines(allow.iter().map(String::as_str)));
        let rule = |name: &SecretName| NameRule {
            rules: IgnoreRules::from_lines([name.pattern]),
            has_folder: name.pattern.trim_end_matches('/').contains('/'),
            reason: name.reason,
        };
        let names = SECRET_NAMES.iter().map(rule).collect();
        Self { names, allowed }
    }

    /// Why a path is likely a secret by its name. `path` is relative to the folder that is copied.
    pub(super) fn by_name(&self, path: &[u8], is_folder: bool) -> Option<&'static str> {
        let (with_folder, name) = (last_parts(path, 2), last_parts(path, 1));
        let matching = self.names.iter().find(|rule| {
            rule.rules.matches(if rule.has_folder { with_folder } else { name }, is_folder)
        })?;
        (!self.is_allowed(path)).then_some(matching.reason)
    }

    pub(super) fn is_allowed(&self, path: &[u8]) -> bool {
        self.allowed.matches(path, false)
    }
}

/// The last parts of a path.
fn last_parts(path: &[u8], count: usize) -> &[u8] {
    let mut separators = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    match separators.nth(count - 1) {
        Some((place, _)) => path.get(place + 1..).unwrap_or(path),
        None => path,
    }
}
