//! Journal events: one header that never changes its meaning, and a body for each kind.
//!
//! A body is JSON. Members are only ever added, with a default, so that every version reads what
//! every earlier version wrote; a change that an older version must not ignore is a new kind or a
//! raised `version` with `must_understand`.

mod call;
mod egress;
mod model;
mod run;
mod sandbox;
mod settings;

use serde::{Deserialize, Serialize};

pub use call::*;
pub use egress::*;
pub use model::*;
pub use run::*;
pub use sandbox::*;
pub use settings::*;

use crate::{Epoch, RunId, Seq, TenantId};

/// What is said about every event, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHeader {
    /// Whose run it is.
    pub tenant: TenantId,
    /// The run.
    pub run: RunId,
    /// Its place in the run.
    pub seq: Seq,
    /// The ownership under which it was written.
    pub epoch: Epoch,
    /// When it was written: milliseconds since the Unix epoch, by the owner's clock.
    pub at: u64,
    /// Who caused it: `harness`, `model`, `guest`, `user:NAME`.
    pub actor: String,
    /// What happened.
    pub kind: String,
    /// The version of the body's shape, from 1.
    pub version: u16,
    /// A reader that does not know this kind or version must stop instead of carrying on.
    pub must_understand: bool,
}

/// One event of a run, read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What is said about every event.
    pub header: EventHeader,
    /// What happened.
    pub body: EventBody,
}

/// Why an event's bytes could not be taken as an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeEventError {
    /// A later version of Moat wrote something that this one must not skip.
    #[error(
        "event `{kind}` version {version} was written by a newer Moat and cannot be skipped; upgrade to go on"
    )]
    NotUnderstood {
        /// The kind as it was written.
        kind: String,
        /// The version as it was written.
        version: u16,
    },
    /// The bytes are not the JSON that the kind asks for.
    #[error("event `{kind}` is damaged: {source}")]
    Damaged {
        /// The kind as it was written.
        kind: String,
        /// What is wrong and where.
        source: serde_json::Error,
    },
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $must:literal;)*) => {
        /// What happened, by kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum EventBody {
            $($(#[$doc])* $variant($variant),)*
            /// An event of a kind that this version does not know and may skip.
            Unknown(UnknownBody),
            /// An event whose body was destroyed by an erasure.
            Erased(String),
        }

        impl EventBody {
            /// The kind's name in the journal.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Unknown(unknown) => &unknown.kind,
                    Self::Erased(kind) => kind,
                }
            }

            /// The version of the body's shape that this code writes.
            pub fn version(&self) -> u16 {
                if let Self::Unknown(unknown) = self { unknown.version } else { 1 }
            }

            /// Whether a reader that does not know the kind has to stop.
            pub fn must_understand(&self) -> bool {
                match self {
                    $(Self::$variant(_) => $must,)*
                    Self::Unknown(_) | Self::Erased(_) => false,
                }
            }

            /// The bytes that the journal stores.
            pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self {
                    $(Self::$variant(body) => serde_json::to_vec(body),)*
                    Self::Unknown(unknown) => Ok(unknown.body.clone()),
                    Self::Erased(_) => Ok(Vec::new()),
                }
            }

            /// Reads what [`EventBody::encode`] wrote, in this or any other version.
            pub fn decode(header: &EventHeader, body: &[u8]) -> Result<Self, DecodeEventError> {
                let damaged =
                    |source| DecodeEventError::Damaged { kind: header.kind.clone(), source };
                match header.kind.as_str() {
                    $($name if header.version == 1 => {
                        serde_json::from_slice(body).map(Self::$variant).map_err(damaged)
                    })*
                    _ if header.must_understand => Err(DecodeEventError::NotUnderstood {
                        kind: header.kind.clone(),
                        version: header.version,
                    }),
                    _ => Ok(Self::Unknown(UnknownBody {
                        kind: header.kind.clone(),
                        version: header.version,
                        body: body.to_vec(),
                    })),
                }
            }
        }

        $(impl From<$variant> for EventBody {
            fn from(body: $variant) -> Self {
                Self::$variant(body)
            }
        })*
    };
}

/// An event that is carried along without being understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBody {
    /// The kind as it was written.
    pub kind: String,
    /// The version as it was written.
    pub version: u16,
    /// The body as it was written.
    pub body: Vec<u8>,
}

kinds! {
    /// The run exists: its agent, input, limits and origin.
    RunStarted = "run_started", true;
    /// A finished or paused run got more input.
    RunContinued = "run_continued", true;
    /// A sandbox was attached to the run.
    SandboxAttached = "sandbox_attached", true;
    /// The sandbox is gone.
    SandboxLost = "sandbox_lost", true;
    /// A new sandbox was filled from a checkpoint.
    SandboxRehydrated = "sandbox_rehydrated", true;
    /// A model call is about to be made.
    ModelRequested = "model_requested", true;
    /// The model answered.
    ModelAnswered = "model_answered", true;
    /// A model call failed.
    ModelFailed = "model_failed", true;
    /// A call is about to be made.
    CallStarted = "call_started", true;
    /// A call ended with an output for the model.
    CallFinished = "call_finished", true;
    /// A call ended the run.
    CallFailed = "call_failed", true;
    /// An attempt's effects were undone with its sandbox; the call runs again.
    CallRolledBack = "call_rolled_back", true;
    /// A background process ended with its sandbox.
    ProcessLost = "process_lost", true;
    /// A call waits for a person.
    ApprovalAsked = "approval_asked", true;
    /// A person decided about a call.
    ApprovalGiven = "approval_given", true;
    /// A network policy allowed or refused something.
    EgressDecided = "egress_decided", false;
    /// The files of the sandbox were saved.
    Checkpointed = "checkpointed", true;
    /// A message was put into the run while it went on.
    Steered = "steered", true;
    /// A child run was started for a call.
    ChildStarted = "child_started", true;
    /// A child run ended.
    ChildFinished = "child_finished", true;
    /// A limit was reached; the run ends in order and can be resumed with a raised limit.
    LimitReached = "limit_reached", true;
    /// Somebody asked for the run to end.
    CancelRequested = "cancel_requested", true;
    /// The run stopped for now.
    RunPaused = "run_paused", true;
    /// A paused or limited run goes on.
    RunResumed = "run_resumed", true;
    /// The run goes on elsewhere, and no longer here.
    RunMoved = "run_moved", true;
    /// The bodies of the run were destroyed.
    RunErased = "erased", false;
    /// The run ended.
    RunFinished = "run_finished", true;
}

/// Kinds that later versions write, with meanings that are already fixed. This version stops when
/// it meets one that must be understood.
pub const RESERVED_KINDS: &[&str] = &[
    "budget_reserved",
    "budget_settled",
    "callback_decided",
    "compacted",
    "context_changed",
    "guardrail_tripped",
    "handed_off",
    "policy_decided",
    "timer_fired",
    "timer_set",
];

/// A moment by the wall clock of whoever wrote it, in milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

#[cfg(test)]
mod tests;
