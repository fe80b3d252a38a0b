//! Models: the contract, the Responses API over HTTP, and the replay model.
//!
//! A [`ModelRequest`] holds the conversation as the very bytes that the journal holds; a provider
//! turns it into its wire format, streams [`Delta`]s to whoever listens, and returns the whole
//! [`ModelResponse`] or a [`ModelError`] that says whether trying again can help. Retrying is the
//! caller's: one call of [`Model::respond`] is one attempt.
//!
//! - [`ResponsesModel`] speaks the Responses API with any server. It sits on hyper directly: one
//!   endpoint, HTTP/1.1 and no redirects need no client library, and without one the process
//!   starts and stays small (no trust roots are read for a plain HTTP address, no runtime of its
//!   own, about sixty packages fewer).
//! - [`ReplayModel`] plays a [`Transcript`], recorded or written by hand, through a loopback server
//!   and [`ResponsesModel`]; [`ScriptedModel`] answers unit tests without HTTP.
//! - [`KeySource`] says where its key comes from: a value, a file, a command.
//! - [`PriceTable`] turns tokens into money.
//!
//! ```
//! use moat_core::Item;
//! use moat_model::{Model, ModelRequest, ReplayModel, Transcript};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let transcript = Transcript::parse("turns: [{output: [{type: message, text: Hello.}]}]")?;
//! let request = ModelRequest {
//!     model: "any".to_owned(),
//!     instructions: None,
//!     input: vec![Item::user_message("Say hello.")],
//!     tools: Vec::new(),
//!     settings: Default::default(),
//!     stream: true,
//!     cache_key: None,
//! };
//! let answer = ReplayModel::new(transcript).respond(&request, &|_delta| {}).await?;
//! assert_eq!(answer.output[0].message_text().as_deref(), Some("Hello."));
//! # Ok(())
//! # }
//! ```
//!
//! This crate must not know tools, sandboxes or journals. It reads neither the environment nor the
//! home folder; the one exception is the look-up of the host's certificate authorities, which
//! follows `SSL_CERT_FILE` and `SSL_CERT_DIR` as every other program on the host does.

mod contract;
mod http;
mod key;
mod price;
mod replay;
mod responses;
mod scripted;
pub mod sse;

pub use contract::*;
pub use http::{ProxyOptions, Timeouts};
pub use key::{CommandKey, FileKey, KeyError, KeySource, NoKey, StaticKey};
pub use price::{LongContext, Price, PriceError, PriceTable};
pub use replay::{
    Expectation, Fault, RecordError, RecordedTurn, ReplayError, ReplayModel, ReplayServer,
    Transcript, TranscriptError, TranscriptUsage, Turn,
};
pub use responses::{ResponsesModel, ResponsesOptions, encode_request};
pub use scripted::{ScriptedModel, ScriptedTurn};
