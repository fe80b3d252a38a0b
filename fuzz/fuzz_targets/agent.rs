//! Any bytes are an agent or an error whose place is in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_harness::agent::{AgentError, AgentSpec};

fuzz_target!(|bytes: &[u8]| match AgentSpec::parse(bytes, "AGENT.md") {
    Ok(agent) => {
        // What was read can be stored and read again.
        let stored = serde_json::to_string(&agent).expect("an agent serialises");
        assert_eq!(serde_json::from_str::<AgentSpec>(&stored).expect("and is read again"), agent);
    }
    Err(AgentError::Invalid { position, message, .. }) => {
        assert!(position.line >= 1 && position.column >= 1);
        assert!(position.line <= bytes.split(|byte| *byte == b'\n').count() + 1, "{message}");
    }
    Err(other) => panic!("{other}"),
});
