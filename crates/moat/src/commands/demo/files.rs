//! The files of the demo: its agent, its transcript and the small repository that is mended.

/// Path below the demo's folder, content, and whether it is executable.
pub(super) const FILES: &[(&str, &str, bool)] = &[
    ("AGENT.md", include_str!("../../../../../demo/AGENT.md"), false),
    ("project/.gitignore", include_str!("../../../../../demo/project/.gitignore"), false),
    ("project/AGENTS.md", include_str!("../../../../../demo/project/AGENTS.md"), false),
    ("project/Cargo.lock", include_str!("../../../../../demo/project/Cargo.lock"), false),
    ("project/Cargo.toml", include_str!("../../../../../demo/project/Cargo.toml"), false),
    ("project/README.md", include_str!("../../../../../demo/project/README.md"), false),
    ("project/rustfmt.toml", include_str!("../../../../../demo/project/rustfmt.toml"), false),
    (
        "project/sample/access.log",
        include_str!("../../../../../demo/project/sample/access.log"),
        false,
    ),
    ("project/src/lib.rs", include_str!("../../../../../demo/project/src/lib.rs"), false),
    ("project/src/main.rs", include_str!("../../../../../demo/project/src/main.rs"), false),
    ("project/src/record.rs", include_str!("../../../../../demo/project/src/record.rs"), false),
    ("project/src/report.rs", include_str!("../../../../../demo/project/src/report.rs"), false),
    ("project/src/span.rs", include_str!("../../../../../demo/project/src/span.rs"), false),
    ("project/src/time.rs", include_str!("../../../../../demo/project/src/time.rs"), false),
    ("project/src/windows.rs", include_str!("../../../../../demo/project/src/windows.rs"), false),
    ("project/tests/report.rs", include_str!("../../../../../demo/project/tests/report.rs"), false),
    ("project/tools/feed.sh", include_str!("../../../../../demo/project/tools/feed.sh"), true),
    ("transcript.yaml", include_str!("../../../../../demo/transcript.yaml"), false),
];
