/// Levels of the workspace that the model is shown.
pub const DEFAULT_DEPTH: usize = 3;
/// Characters of that layout.
pub const DEFAULT_MAX_CHARS: usize = 5000;
