//! A provider on the loopback: speaks just enough HTTP, answers what a function says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

/// What was asked.
pub(crate) struct Asked {
    pub(crate) authorization: String,
    pub(crate) body: Value,
}

impl Asked {
    /// Outputs of calls in the conversation so far.
    pub(crate) fn outputs(&self) -> usize {
        let input = self.body["input"].as_array().unwrap().iter();
        input.filter(|item| item["type"] == "function_call_output").count()
    }
}

/// Starts it; it ends with the test's process. Returns its base URL.
pub(crate) fn serve(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve_one(stream, &*answer));
        }
    });
    url
}

fn serve_one(stream: TcpStream, answer: &dyn Fn(&Asked) -> (u16, Value)) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (name, value) = line.trim().split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = value.to_owned(),
            _ if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked = Asked { authorization, body: serde_json::from_slice(&body).ok()? };
    let (status, body) = answer(&asked);
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()
}

/// A whole answer with these items.
pub(crate) fn response(id: usize, output: Value) -> (u16, Value) {
    let usage = json!({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15});
    let body = json!({
        "id": format!("resp_{id}"), "object": "response", "created_at": 1, "status": "completed",
        "model": "m", "output": output, "usage": usage, "error": null,
    });
    (200, body)
}

pub(crate) fn error(status: u16, code: &str, message: &str) -> (u16, Value) {
    (status, json!({"error": {"message": message, "type": "error", "code": code, "param": null}}))
}

pub(crate) fn message(text: &str) -> Value {
    json!([{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]}])
}

pub(crate) fn call(number: usize, cmd: &str) -> Value {
    let arguments = json!({"cmd": cmd, "login": false, "yield_time_ms": 20000}).to_string();
    json!([{"type": "function_call", "id": format!("fc_{number}"), "status": "completed",
            "call_id": format!("call_{number}"), "name": "exec_command", "arguments": arguments}])
}
