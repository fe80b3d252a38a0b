use serde_json::{Value, json};

use super::{DEFAULT_OUTPUT_TOKENS, EXEC_COMMAND, MAX_OUTPUT_TOKENS, WRITE_STDIN};

/// What the model is shown of `exec_command`: an object of the Responses API.
pub fn exec_command_tool() -> Value {
    json!({
        "type": "function",
        "name": EXEC_COMMAND,
        "description": "Runs a shell command in the sandbox. Returns its output when it ends; if it \
            is still running when the wait is over, returns a session ID with which write_stdin \
            reads on, types into it or waits for it.",
        "parameters": {
            "type": "object",
            "properties": {
                "cmd": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The shell command to run.",
                },
                "workdir": {
                    "type": ["string", "null"],
                    "default": null,
                    "description": "The folder to run it in; the workspace folder if left out.",
                },
                "shell": {
                    "type": ["string", "null"],
                    "default": null,
                    "description": "The shell program to run it with; sh if left out.",
                },
                "login": {
                    "type": "boolean",
                    "default": true,
                    "description": "Whether the shell is a login shell (-lc) or a plain one (-c).",
                },
                "tty": {
                    "type": "boolean",
                    "default": false,
                    "description": "Whether the command gets a terminal. Without one its input is \
                        empty; set to true for a program that asks for input or draws a screen.",
                },
                "yield_time_ms": {
                    "type": "integer",
                    "minimum": 0,
                    "default": 10_000,
                    "description": "Milliseconds to wait for the command before it goes on in the \
                        background (250 to 30000).",
                },
                "max_output_tokens": {
                    "type": ["integer", "null"],
                    "minimum": 1,
                    "default": null,
                    "description": output_limit_description(),
                },
                "timeout_ms": {
                    "type": ["integer", "null"],
                    "minimum": 1,
                    "default": null,
                    "description": "Stops the command if it still runs after so many milliseconds \
                        of this call's wait; what it wrote is kept. No limit if left out.",
                },
            },
            "required": ["cmd"],
        },
        "strict": false,
    })
}

/// What the model is shown of `write_stdin`: an object of the Responses API.
pub fn write_stdin_tool() -> Value {
    json!({
        "type": "function",
        "name": WRITE_STDIN,
        "description": "Types characters into a command that exec_command left running, or only \
            waits for it, and returns the output since the last reply.",
        "parameters": {
            "type": "object",
            "properties": {
                "session_id": {
                    "type": "integer",
                    "description": "The session ID that exec_command returned.",
                },
                "chars": {
                    "type": "string",
                    "default": "",
                    "description": "The characters to type, control characters included; empty to \
                        only wait for output.",
                },
                "yield_time_ms": {
                    "type": "integer",
                    "minimum": 0,
                    "default": 250,
                    "description": "Milliseconds to wait for output (250 to 30000 after typing, \
                        5000 to 300000 when only waiting).",
                },
                "max_output_tokens": {
                    "type": ["integer", "null"],
                    "minimum": 1,
                    "default": null,
                    "description": output_limit_description(),
                },
            },
            "required": ["session_id"],
        },
        "strict": false,
    })
}

fn output_limit_description() -> String {
    format!(
        "Tokens of output to return: {DEFAULT_OUTPUT_TOKENS} if left out, at most \
         {MAX_OUTPUT_TOKENS}. Longer output loses its middle; the reply then names the file that \
         holds all of it."
    )
}
