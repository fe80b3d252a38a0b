//! Signatures that are made on this side, so that keys never enter a sandbox: requests to Amazon
//! Web Services, and logins over SSH.

mod aws;
mod aws_canonical;
mod ssh_agent;
mod ssh_key;

#[cfg(test)]
mod tests;

pub use aws::{
    AwsCredentials, AwsCredentialsError, AwsPayload, AwsRequest, AwsSignError, AwsSigned,
    AwsSigner, sha256_hex,
};
pub use ssh_agent::{AgentError, AgentFilter, AgentStep, MAX_AGENT_MESSAGE, SignRefused};
pub use ssh_key::{SshKey, SshKeyError};
