use super::*;

fn exec(json: &str) -> ExecArguments {
    ExecArguments::parse(json).unwrap()
}

#[test]
fn waits_and_limits_have_defaults_and_bounds() {
    let plain = exec(r#"{"cmd":"ls"}"#);
    assert_eq!((plain.wait().as_millis(), plain.output_tokens()), (10_000, 10_000));
    assert_eq!(plain.argv(), ["sh", "-lc", "ls"]);
    let asked = exec(
        r#"{"cmd":"ls","yield_time_ms":1,"max_output_tokens":99999999999,"login":"false",
            "shell":"bash","workdir":" ","timeout_ms":"1500","unknown":1}"#,
    );
    assert_eq!((asked.wait().as_millis(), asked.output_tokens()), (250, MAX_OUTPUT_TOKENS));
    assert_eq!(asked.argv(), ["bash", "-c", "ls"]);
    assert_eq!((asked.workdir, asked.timeout_ms), (None, Some(1500)));
    let wait = |json| StdinArguments::parse(json).unwrap().wait().as_millis();
    assert_eq!(wait(r#"{"session_id":1}"#), 5_000);
    assert_eq!(wait(r#"{"session_id":1,"yield_time_ms":1e9}"#), 300_000);
    assert_eq!(wait(r#"{"session_id":1,"chars":"x"}"#), 250);
    assert_eq!(wait(r#"{"session_id":1,"chars":"x","yield_time_ms":99999}"#), 30_000);
}

#[test]
fn arguments_that_do_not_fit_are_all_named() {
    let error = ExecArguments::parse(r#"{"cmd":7,"tty":"maybe","timeout_ms":0}"#).unwrap_err();
    assert_eq!(error.fields, ["cmd", "tty", "timeout_ms"]);
    let text = "Invalid tool arguments. Check the tool schema and try again.";
    assert_eq!(ExecArguments::parse("[]").unwrap_err().to_string(), text);
    assert_eq!(StdinArguments::parse("{").unwrap_err().to_string(), text);
}

#[test]
fn lines_of_our_own_stand_in_the_header() {
    let reply = Reply {
        chunk_id: "0a1b2c",
        wall_seconds: 0.03125,
        exit_code: Some(-9),
        limit: Some("memory"),
        original_tokens: Some(50_000),
        full_output: Some("/moat/outputs/7-0.txt"),
        output: "head",
        ..Reply::default()
    };
    assert_eq!(
        reply.render(),
        "Chunk ID: 0a1b2c\nWall time: 0.0312 seconds\nProcess exited with code -9\n\
         Limit reached: memory\nOriginal token count: 50000\nFull output: /moat/outputs/7-0.txt\n\
         Output:\nhead"
    );
}

#[test]
fn what_is_declared_is_what_is_read() {
    for (tool, required) in [(exec_command_tool(), "cmd"), (write_stdin_tool(), "session_id")] {
        assert_eq!(tool["strict"], false);
        assert_eq!(tool["parameters"]["required"], serde_json::json!([required]));
    }
    let tool = exec_command_tool();
    let declared = tool["parameters"]["properties"].as_object().unwrap();
    let defaults: serde_json::Map<_, _> = declared
        .iter()
        .map(|(name, schema)| (name.clone(), schema.get("default").unwrap_or(&"x".into()).clone()))
        .collect();
    let from_defaults = exec(&serde_json::Value::Object(defaults).to_string());
    assert_eq!(from_defaults, exec(r#"{"cmd":"x"}"#));
}
