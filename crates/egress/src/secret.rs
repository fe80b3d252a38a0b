//! Secrets: a sandbox holds placeholders, this side puts the values in.
//!
//! A [`SecretSpec`] is what stands on the command line or in a file. With its value it becomes part
//! of a [`SecretSet`], which says what the sandbox's environment holds. For each request the set is
//! asked for what it means [`SecretSet::towards`] that host: headers, target and body have
//! placeholders of the host's own secrets replaced by values, and are stopped if they hold a
//! placeholder of another host's secret, or a value in whatever form that is looked for. What comes
//! back is decoded and has values replaced by placeholders.
//!
//! Looking for values is detection, not a guarantee: who can have a value changed in a way that is
//! not looked for (by a server that returns it reversed or piece by piece) can see it. What holds is
//! that a value goes to its own hosts only.

mod body;
mod forms;
mod json;
mod placeholder;
mod response;
mod rewrite;
mod set;
mod spec;
mod towards;

#[cfg(test)]
mod tests;

pub use body::{MAX_FIELD_BODY, RequestBody};
pub use forms::Form;
pub use placeholder::{LineageKey, Placeholder};
pub use response::{ACCEPTED_ENCODINGS, DecodeError, ResponseBody, UnknownEncoding};
pub use set::{SecretProblem, SecretSet, SecretValueError};
pub use spec::{AwsScope, SecretHost, SecretPlace, SecretSource, SecretSpec, SecretSpecError};
pub use towards::{Put, Towards};
