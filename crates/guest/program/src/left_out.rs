//! What a test leaves out, to see its checks fail. Only a program that is built with the feature
//! `mutations` can leave anything out.

/// Whether this is done.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn stands(_defence: &str) -> bool {
    true
}

#[cfg(feature = "mutations")]
pub(crate) use mutations::{remember, stands};

#[cfg(feature = "mutations")]
mod mutations {
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    static LEFT_OUT: OnceLock<String> = OnceLock::new();

    /// Names, with commas between them, come as a variable.
    pub(crate) fn remember(environment: &BTreeMap<String, String>) {
        if let Some(names) = environment.get("MOAT_TEST_LEFT_OUT") {
            let _ = LEFT_OUT.set(names.clone());
        }
    }

    pub(crate) fn stands(defence: &str) -> bool {
        !LEFT_OUT.get().is_some_and(|names| names.split(',').any(|name| name == defence))
    }
}
