//! Why a request came to nothing, before it is known whose request it was.

use moat_core::CallKey;
use moat_guest::Failure;

use super::convert;
use crate::GuestError;

/// The guest's refusal, or an error of the connection.
#[derive(Debug)]
pub(super) enum Exchange {
    Failed(Failure),
    Broken(GuestError),
}

impl Exchange {
    /// The guest answered something else than it was asked.
    pub(super) fn mismatch(asked: &str) -> Self {
        Self::Broken(convert::broken(format!("its answer to {asked} is of another kind")))
    }

    /// The error of a request about a call.
    pub(super) fn about(self, key: CallKey) -> GuestError {
        match self {
            Self::Failed(Failure::UnknownKey) => GuestError::UnknownKey(key),
            other => other.into(),
        }
    }
}

impl From<GuestError> for Exchange {
    fn from(error: GuestError) -> Self {
        Self::Broken(error)
    }
}

impl From<Exchange> for GuestError {
    fn from(exchange: Exchange) -> Self {
        match exchange {
            Exchange::Broken(error) => error,
            Exchange::Failed(failure) => convert::failure(failure),
        }
    }
}
