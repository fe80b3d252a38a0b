use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<AgentSpec, AgentError> {
    AgentSpec::parse(text.as_bytes(), "AGENT.md")
}

fn fails(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_whole_definition_is_read() {
    let spec = parse(
        "\u{feff}---\r\nversion: 1\r\nname: Program Editor\r\nmodel: gpt-5.5\r\nmodel_settings:\r\n  \
         reasoning: { effort: medium }\r\ntools: [exec_command, apply_patch]\r\napprovals: \
         [apply_patch]\r\nlimits: { turns: 40, cost_usd: 1.5 }\r\nmanifest:\r\n  entries:\r\n    \
         original: { type: local_dir, src: ./talks }\r\n  environment: { A: '1', B: '1' }\r\n\
         environment:\r\n  B: '2'\r\n---\r\n\r\nEdit the files.\r\nKeep them short.\r\n",
    )
    .unwrap();
    assert_eq!(spec.name, "Program Editor");
    assert_eq!(spec.instructions, "Edit the files.\nKeep them short.");
    assert_eq!(spec.limits.turns, Some(40));
    assert_eq!(spec.model_settings["reasoning"]["effort"], "medium");
    assert_eq!(spec.environment().into_values().collect::<Vec<_>>(), ["1", "2"]);
    let records: Vec<_> =
        spec.tool_records().into_iter().map(|tool| (tool.name, tool.needs_approval)).collect();
    assert_eq!(records, [("exec_command".into(), false), ("apply_patch".into(), true)]);
}

#[test]
fn tools_can_have_settings_and_all_are_there_by_default() {
    assert_eq!(parse("---\nname: x\n---\n").unwrap().tool_records().len(), 4);
    let spec = parse(
        "---\nname: x\non_unknown: ask\ntools:\n  exec_command: { needs_approval: true }\n  \
         view_image:\n  apply_patch: { on_unknown: retry }\n---\n",
    )
    .unwrap();
    let records = spec.tool_records();
    assert_eq!(records.len(), 3);
    assert!(records[0].needs_approval && !records[1].needs_approval);
    let policies: Vec<_> = records.iter().map(|record| record.on_unknown).collect();
    assert_eq!(policies, [OnUnknown::Ask, OnUnknown::Retry, OnUnknown::Ask]);
}

#[test]
fn faults_are_named_with_their_place_and_what_was_meant() {
    let cases = [
        (
            "no front matter\n",
            "AGENT.md:1:1: the front matter is missing: the first line has to be `---`, then `name: …`, then `---` and the instructions",
        ),
        (
            "---\nname: x\n",
            "AGENT.md:1:1: the front matter that begins here is not closed by a line `---`",
        ),
        ("---\nmodel: x\n---\n", "AGENT.md:2:1: `name` is missing"),
        (
            "---\nname: x\nmodle: y\n---\n",
            "AGENT.md:3:1: unknown member `modle`; did you mean `model`?",
        ),
        (
            "---\nname: x\nlimits:\n  turnes: 3\n---\n",
            "AGENT.md:4:3: unknown member `turnes`; did you mean `turns`?",
        ),
        (
            "---\nname: x\nlimits:\n  turns: many # of them\n---\n",
            "AGENT.md:4:10: expected a whole number, 0 or more, found `many`",
        ),
        (
            "---\nname: x\nlimits: { turns: 0 }\n---\n",
            "AGENT.md:3:18: `0`: a limit is at least 1; leave it out for none",
        ),
        (
            "---\nname: x\nlimits: { cost_usd: -2 }\n---\n",
            "AGENT.md:3:21: `-2`: an amount of money is more than 0",
        ),
        (
            "---\nname: x\nlimits: 7\n---\n",
            "AGENT.md:3:9: expected members (`name: value`), found `7`",
        ),
        (
            "---\nname: x\nversion: 2\n---\n",
            "AGENT.md:3:10: `2`: version 2 is not known; this Moat reads version 1",
        ),
        ("---\nname: ''\n---\n", "AGENT.md:2:7: `''`: a name needs characters"),
        ("---\nname: x\nname: y\n---\n", "AGENT.md:3:1: `name` stands twice"),
        (
            "---\nname: x\ntools: [exec_command, aply_patch]\n---\n",
            "AGENT.md:3:23: unknown choice `aply_patch`; did you mean `apply_patch`?",
        ),
        (
            "---\nname: x\ntools:\n  shell:\n---\n",
            "AGENT.md:4:3: unknown choice `shell`; there are `exec_command`, `write_stdin`, `apply_patch`, `view_image`",
        ),
        (
            "---\nname: x\ntools: [view_image]\napprovals: [exec_command]\n---\n",
            "AGENT.md:4:1: `exec_command` is not among the agent's `tools`",
        ),
        (
            "---\nname: x\nmanifest:\n  entries:\n    a:\n      type: local_dir\n      scr: ./a\n---\n",
            "AGENT.md:7:7: unknown member `scr`; did you mean `src`?",
        ),
        (
            "---\nname: x\nmanifest:\n  entries:\n    a: { type: folder }\n---\n",
            "AGENT.md:5:16: unknown choice `folder`; there are `dir`, `file`, `local_file`, `local_dir`, `git_repo`, `skill`, `archive`, `s3_mount`, `gcs_mount`, `r2_mount`, `azure_blob_mount`, `rclone_mount`, `shared_mount`",
        ),
        (
            "---\nname: x\nmanifest:\n  entries:\n    a:\n      type: file\n      executable: maybe\n---\n",
            "AGENT.md:7:19: expected `true` or `false`, found `maybe`",
        ),
        (
            "---\nname: x\nenvironment:\n  'BAD NAME': y\n---\n",
            "AGENT.md:4:3: `BAD NAME` is no name of a variable (letters, digits and `_`)",
        ),
        (
            "---\nname: x\nmodel_settings:\n  stream: true\n---\n",
            "AGENT.md:4:3: `stream` is no setting: it is part of every request already",
        ),
        (
            "---\nname: x\ninstructions: do\n---\nand do\n",
            "AGENT.md:3:1: the instructions stand here and after the front matter; keep one of them",
        ),
    ];
    let told: Vec<String> = cases.iter().map(|(text, _)| fails(text)).collect();
    let wanted: Vec<&str> = cases.iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(told, wanted);
}

#[test]
fn bytes_that_are_not_utf8_and_broken_yaml_are_placed() {
    let error = AgentSpec::parse(b"---\nname: \xff\n---\n", "a/AGENT.md").unwrap_err();
    assert_eq!(error.to_string(), "a/AGENT.md:2:7: the file is not UTF-8 from here on");
    let AgentError::Invalid { position, line, .. } = parse("---\nname: [\n---\n").unwrap_err()
    else {
        panic!("another error")
    };
    assert_eq!((position, line.as_str()), (Position { line: 2, column: 7 }, "name: ["));
}

#[test]
fn a_folder_without_agent_and_a_file_too_long_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = AgentSpec::load(folder.path()).unwrap_err();
    assert!(matches!(error, AgentError::NotFound { .. }), "{error}");
    let long = vec![b' '; MAX_AGENT_BYTES as usize + 1];
    std::fs::write(folder.path().join("AGENT.md"), long).unwrap();
    let error = AgentSpec::load(folder.path()).unwrap_err();
    assert!(matches!(error, AgentError::TooLarge { .. }), "{error}");
    std::fs::write(folder.path().join("AGENT.md"), "---\nname: x\n---\nWork.\n").unwrap();
    assert_eq!(AgentSpec::load(folder.path()).unwrap().instructions, "Work.");
}

#[test]
fn the_hash_is_of_what_is_said_and_not_of_how_it_is_written() {
    let first =
        parse("---\nname: x\nmodel: m\ntools: [view_image, exec_command]\n---\nGo.\n").unwrap();
    let same =
        "---\nmodel: m # the best\ntools:\n  exec_command:\n  view_image:\nname: 'x'\n---\n\nGo.";
    assert_eq!(first.hash(), parse(same).unwrap().hash());
    assert_ne!(first.hash(), AgentSpec { model: None, ..first.clone() }.hash());
    let json = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<AgentSpec>(&json).unwrap(), first);
}

#[test]
fn the_published_schema_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/agent.v1.json");
    if std::env::var_os("MOAT_UPDATE").is_some() {
        std::fs::write(path, schema_text()).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert!(published == schema_text(), "run the test with MOAT_UPDATE=1 and review {path}");
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(
        lines in prop::collection::vec(prop_oneof![
            Just("---".to_owned()), Just("name: x".to_owned()), Just("tools: [".to_owned()),
            Just("  - exec_command".to_owned()), Just("limits: {turns: 3}".to_owned()),
            Just("manifest: &a {entries: {a: *a}}".to_owned()), Just("<<: *a".to_owned()),
            Just("  type: git_repo".to_owned()), "[ -]{0,4}[a-z]{1,8}: ?\\PC{0,10}", "\\PC{0,20}",
        ], 0..12),
        raw in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let _ = parse(&format!("---\n{}\n---\n", lines.join("\n")));
        let _ = AgentSpec::parse(&raw, "AGENT.md");
    }
}
