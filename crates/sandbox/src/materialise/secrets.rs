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
    names: Vec<(IgnoreRules, &'static str)>,
    allowed: IgnoreRules,
}

impl SecretRules {
    /// `allow` are patterns of paths that are taken in all the same.
    pub(super) fn new(allow: &[String]) -> Self {
        let mut allowed = IgnoreRules::from_lines(EXAMPLES.iter().copied());
        allowed.extend(IgnoreRules::from_lines(allow.iter().map(String::as_str)));
        let names = SECRET_NAMES
            .iter()
            .map(|name| (IgnoreRules::from_lines([name.pattern]), name.reason))
            .collect();
        Self { names, allowed }
    }

    /// Why a path is likely a secret by its name. `path` is relative to the folder that is copied.
    pub(super) fn by_name(&self, path: &[u8], is_folder: bool) -> Option<&'static str> {
        // Patterns with a separator are meant at any depth here.
        let tail = tail(path);
        let matching = self
            .names
            .iter()
            .find(|(rules, _)| rules.matches(path, is_folder) || rules.matches(tail, is_folder));
        let (_, reason) = matching?;
        (!self.is_allowed(path)).then_some(reason)
    }

    pub(super) fn is_allowed(&self, path: &[u8]) -> bool {
        self.allowed.matches(path, false)
    }
}

/// The last two parts.
fn tail(path: &[u8]) -> &[u8] {
    let mut separators = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    match separators.nth(1) {
        Some((place, _)) => path.get(place + 1..).unwrap_or(path),
        None => path,
    }
}
