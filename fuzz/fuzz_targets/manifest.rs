//! Any bytes are a manifest of a workspace or an error; what was read is written as it was read. Any
//! path is refused, or stays beneath the workspace.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use moat_sandbox::manifest::{IgnoreRules, Manifest, PathOperation, PathPolicy};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let written = serde_json::to_string(&manifest).expect("a manifest serialises");
        let read: Manifest = serde_json::from_str(&written).expect("and is read again");
        assert_eq!(read, manifest);
        let _ = PathPolicy::new("/workspace", None, &manifest.path_grants);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let policy = PathPolicy::new("/workspace", None, &[]).expect("it is a root");
    for operation in [PathOperation::Read, PathOperation::Write] {
        if let Ok(path) = policy.normalise(text, operation) {
            assert!(path.starts_with("/workspace"), "{path:?}");
            assert!(!path.components().any(|part| part == Component::ParentDir), "{path:?}");
        }
    }
    let _ = IgnoreRules::parse(text).matches(Path::new(text).as_os_str().as_encoded_bytes(), false);
});
