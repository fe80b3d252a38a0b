/// Says whether doing the same thing again can help.
///
/// Every error enum of Moat's libraries implements this, so that a caller never has to match on
/// variants, or on text, to decide.
pub trait Retryable {
    /// `true` when the same operation may succeed if it is tried again later, unchanged.
    fn is_retryable(&self) -> bool;
}
