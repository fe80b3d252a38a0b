use std::time::Duration;

use serde_json::{Map, Value};

use super::{DEFAULT_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS};

/// Arguments that the tool cannot take. The text is for the model; it names the arguments and
/// holds nothing of what was in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidArguments {
    /// The arguments, in the order in which the tool declares them; none if there was no object.
    pub fields: Vec<&'static str>,
}

impl std::fmt::Display for InvalidArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Invalid tool arguments")?;
        if !self.fields.is_empty() {
            write!(f, " for {}", self.fields.join(", "))?;
        }
        f.write_str(". Check the tool schema and try again.")
    }
}

impl std::error::Error for InvalidArguments {}

impl moat_core::Retryable for InvalidArguments {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// Arguments of `exec_command`, as the model wrote them. The methods apply defaults and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecArguments {
    /// The command line; not empty.
    pub cmd: String,
    /// Where to run it; relative to the workspace.
    pub workdir: Option<String>,
    /// The shell to run it with.
    pub shell: Option<String>,
    /// The shell is a login shell.
    pub login: bool,
    /// The command gets a terminal.
    pub tty: bool,
    /// How long to wait for output before the command goes on in the background.
    pub yield_time_ms: u64,
    /// How much output to return.
    pub max_output_tokens: Option<u64>,
    /// How long the command may run at all. Moat's own.
    pub timeout_ms: Option<u64>,
}

impl ExecArguments {
    /// Reads the arguments of a call. Unknown members are ignored.
    pub fn parse(json: &str) -> Result<Self, InvalidArguments> {
        let mut fields = Fields::read(json)?;
        let arguments = Self {
            cmd: fields.required_text("cmd"),
            workdir: fields.optional_text("workdir").filter(|text| !text.trim().is_empty()),
            shell: fields.optional_text("shell"),
            login: fields.flag("login", true),
            tty: fields.flag("tty", false),
            yield_time_ms: fields.count("yield_time_ms", 10_000),
            max_output_tokens: fields.positive("max_output_tokens"),
            timeout_ms: fields.positive("timeout_ms"),
        };
        fields.finish(arguments)
    }

    /// How long to wait: 250 ms to 30 s.
    pub fn wait(&self) -> Duration {
        Duration::from_millis(self.yield_time_ms.clamp(250, 30_000))
    }

    /// Tokens of output to return.
    pub fn output_tokens(&self) -> u32 {
        output_tokens(self.max_output_tokens)
    }

    /// Program and arguments: the command line goes through a shell.
    pub fn argv(&self) -> Vec<String> {
        let shell = self.shell.as_deref().filter(|shell| !shell.trim().is_empty());
        let flag = if self.login { "-lc" } else { "-c" };
        [shell.unwrap_or("sh"), flag, &self.cmd].map(str::to_owned).to_vec()
    }
}

/// Arguments of `write_stdin`, as the model wrote them. The methods apply defaults and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdinArguments {
    /// The number that `exec_command` gave.
    pub session_id: i64,
    /// What to type; empty: only wait.
    pub chars: String,
    /// How long to wait for output.
    pub yield_time_ms: u64,
    /// How much output to return.
    pub max_output_tokens: Option<u64>,
}

impl StdinArguments {
    /// Reads the arguments of a call. Unknown members are ignored.
    pub fn parse(json: &str) -> Result<Self, InvalidArguments> {
        let mut fields = Fields::read(json)?;
        let arguments = Self {
            session_id: fields.required_integer("session_id"),
            chars: fields.text("chars"),
            yield_time_ms: fields.count("yield_time_ms", 250),
            max_output_tokens: fields.positive("max_output_tokens"),
        };
        fields.finish(arguments)
    }

    /// How long to wait: 250 ms to 30 s after typing, 5 s to 5 min when only waiting.
    pub fn wait(&self) -> Duration {
        let (least, most) = if self.chars.is_empty() { (5_000, 300_000) } else { (250, 30_000) };
        Duration::from_millis(self.yield_time_ms.clamp(least, most))
    }

    /// Tokens of output to return.
    pub fn output_tokens(&self) -> u32 {
        output_tokens(self.max_output_tokens)
    }
}

fn output_tokens(asked: Option<u64>) -> u32 {
    let asked = asked.unwrap_or(u64::from(DEFAULT_OUTPUT_TOKENS));
    u32::try_from(asked).unwrap_or(MAX_OUTPUT_TOKENS).min(MAX_OUTPUT_TOKENS)
}

/// Reads members of an object one by one and remembers which were not what they should be, so
/// that the model hears of all of them at once.
struct Fields {
    object: Map<String, Value>,
    bad: Vec<&'static str>,
}

impl Fields {
    fn read(json: &str) -> Result<Self, InvalidArguments> {
        match serde_json::from_str(json) {
            Ok(Value::Object(object)) => Ok(Self { object, bad: Vec::new() }),
            _ => Err(InvalidArguments { fields: Vec::new() }),
        }
    }

    fn finish<T>(self, arguments: T) -> Result<T, InvalidArguments> {
        if self.bad.is_empty() {
            return Ok(arguments);
        }
        Err(InvalidArguments { fields: self.bad })
    }

    /// The member read by `read`; the default if it is absent; remembered as bad if `read` refuses.
    fn member<T>(
        &mut self,
        name: &'static str,
        default: Option<T>,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = match self.object.get(name) {
            Some(value) => read(value),
            None => default,
        };
        if value.is_none() {
            self.bad.push(name);
        }
        value
    }

    fn required_text(&mut self, name: &'static str) -> String {
        let text =
            |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        self.member(name, None, text).unwrap_or_default()
    }

    fn text(&mut self, name: &'static str) -> String {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.member(name, Some(String::new()), text).unwrap_or_default()
    }

    fn optional_text(&mut self, name: &'static str) -> Option<String> {
        let text = |value: &Value| match value {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text.clone())),
            _ => None,
        };
        self.member(name, Some(None), text).flatten()
    }

    fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.member(name, Some(default), read_flag).unwrap_or(default)
    }

    fn required_integer(&mut self, name: &'static str) -> i64 {
        self.member(name, None, read_integer).unwrap_or_default()
    }

    fn count(&mut self, name: &'static str, default: u64) -> u64 {
        let count = |value: &Value| read_integer(value).and_then(|number| number.try_into().ok());
        self.member(name, Some(default), count).unwrap_or(default)
    }

    fn positive(&mut self, name: &'static str) -> Option<u64> {
        let positive = |value: &Value| match value {
            Value::Null => Some(None),
            value => match read_integer(value) {
                Some(number @ 1..) => Some(Some(number.unsigned_abs())),
                _ => None,
            },
        };
        self.member(name, Some(None), positive).flatten()
    }
}

/// An integer; also where it was written as a whole float or in quotes, as models do. What is too
/// large is as large as can be.
fn read_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            // `as` saturates, which is what is wanted here.
            (float.fract() == 0.0).then_some(float as i64)
        }),
        Value::String(text) => {
            let text = text.trim();
            let whole = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0'));
            whole.map_or(text, |(whole, _)| whole).parse().ok()
        }
        _ => None,
    }
}

fn read_flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => match read_integer(value) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
    }
}
