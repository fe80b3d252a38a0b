//! Secrets: a sandbox holds placeholders, this side puts the values in.

mod spec;

pub use spec::{AwsScope, SecretHost, SecretPlace, SecretSource, SecretSpec, SecretSpecError};
