/// Placeholder.
pub struct IgnoreRules;
/// Placeholder.
pub struct InvalidPattern;
