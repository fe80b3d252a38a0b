//! A check: a shell line in a sandbox that holds a run's files.
//!
//! It is a fork of the run whose model makes that one call and waits for it. So it has the run's
//! own sandbox settings, and what it prints and what its network decided is journalled, encrypted
//! and erased like everything else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moat_core::{EventBody, Item, KnownSecrets, RunId, RunOptions, ToolRecord, Usage};
use moat_harness::machine::{State, Status};
use moat_harness::{Branch, Changes, sandbox_tools};
use moat_model::{DeltaSink, Model, ModelError, ModelRequest, ModelResponse};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::show::events_of;
use crate::commands::take_up::explain;
use crate::drive::Stop;
use crate::engine::Engine;
use crate::view::Lane;

/// Lines of the output that are told.
const TAIL: usize = 20;
/// Milliseconds that one call waits for the command: the most that the tools take.
const FIRST_WAIT: u64 = 30_000;
const SHORTEST_WAIT: u64 = 5_000;
const LONGEST_WAIT: u64 = 300_000;

/// What is to be checked, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) command: String,
    pub(super) limit: Duration,
    /// The race, for labels.
    pub(super) race: String,
}

/// How a check went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Checked {
    /// The run that it was.
    pub(super) run: RunId,
    /// Exit code of the command; -N: signal N ended it.
    pub(super) exit_code: Option<i32>,
    /// It was still running when its time was up.
    pub(super) timed_out: bool,
    /// Its last lines.
    pub(super) tail: String,
    pub(super) seconds: f64,
}

impl Checked {
    pub(super) fn passed(&self) -> bool {
        self.exit_code == Some(0)
    }
}

impl Check {
    /// Checks the files that a run ended with. `None`: it was interrupted.
    pub(super) async fn run(
        &self,
        engine: &Engine,
        state: &State,
        secrets: KnownSecrets,
        (stop, lane): (&Stop, &Lane),
    ) -> anyhow::Result<Option<Checked>> {
        let Some(run) = state.run() else { return Ok(None) };
        let began = Instant::now();
        let model = Arc::new(CheckModel::new(self));
        let harness = engine.harness(model, secrets, state.allow_missing())?;
        let (driver, _) = harness.branch(run, self.branch(run, state)).await?;
        let mut driver = driver.observed_by(Arc::new(lane.clone()));
        let own = driver.run();
        stop.add(driver.interrupt());
        let driven = driver.drive().await;
        let status = driver.state().status().clone();
        drop(driver);
        if !matches!(status, Status::Finished(_)) {
            // Only this process has a model for it.
            harness.end(own, "the check was stopped").await.map_err(|e| explain(own, e))?;
        }
        driven?;
        match status {
            Status::Finished(_) => {}
            Status::Paused(moat_core::PauseReason::Host, why) => {
                anyhow::bail!("the check could not be made: {why}")
            }
            _ => return Ok(None),
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Some(outcome(own, seconds, events_of(engine, own).await?)))
    }

    fn branch(&self, run: RunId, state: &State) -> Branch {
        let labels = [
            ("race", self.race.clone()),
            ("check_of", run.to_string()),
            ("model", "check".to_owned()),
        ];
        let options = RunOptions {
            max_turns: None,
            max_tokens: None,
            max_cost: None,
            max_model_retries: 0,
            ..state.options().clone()
        };
        Branch {
            at: None,
            input: vec![Item::user_message(&format!("Check: {}", self.command))],
            changes: Changes {
                options: Some(options),
                model: Some("check".to_owned()),
                sandbox: None,
            },
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
            tools: Some(tools()),
        }
    }
}

/// The agent may have others, or have to ask a person for them.
fn tools() -> Vec<ToolRecord> {
    let wanted = |tool: &ToolRecord| tool.name == "exec_command" || tool.name == "write_stdin";
    sandbox_tools().into_iter().filter(wanted).collect()
}

/// What the events of a check say.
fn outcome(run: RunId, seconds: f64, events: Vec<moat_core::Event>) -> Checked {
    let mut checked =
        Checked { run, exit_code: None, timed_out: false, tail: String::new(), seconds };
    let mut output = String::new();
    for event in events {
        let EventBody::CallFinished(finished) = event.body else { continue };
        checked.exit_code = finished.report.exit_code;
        checked.timed_out = finished.report.session.is_some_and(|session| session.running);
        let told = finished.output.and_then(|item| item.fields().output);
        if let Some(Value::String(text)) = told {
            output.push_str(text.split_once("\nOutput:\n").map_or(text.as_str(), |(_, out)| out));
        }
    }
    checked.tail = tail(&output);
    checked
}

fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    let last = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
    last.join("\n")
}

/// Makes one call, and waits for it until its time is up.
struct CheckModel {
    command: String,
    limit: Duration,
    /// Begins the ids of its calls, which no other run of this race has.
    prefix: String,
    began: Mutex<Option<Instant>>,
}

impl CheckModel {
    fn new(check: &Check) -> Self {
        let (command, limit) = (check.command.clone(), check.limit);
        let prefix = format!("check-{}-", RunId::generate());
        Self { command, limit, prefix, began: Mutex::new(None) }
    }

    fn elapsed(&self) -> Duration {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        began.get_or_insert_with(Instant::now).elapsed()
    }

    /// The next item: the call, another wait, or the end.
    fn next(&self, input: &[Item], elapsed: Duration) -> Value {
        let ours = input.iter().rev().map(Item::fields).find(|fields| {
            fields.call_id.as_ref().is_some_and(|id| id.starts_with(&self.prefix))
                && fields.output.is_some()
        });
        let left = self.limit.saturating_sub(elapsed);
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let Some(ours) = ours else {
            let arguments = json!({ "cmd": self.command, "yield_time_ms": left.min(FIRST_WAIT) });
            return self.call("exec_command", 0, &arguments);
        };
        let output = ours.output.unwrap_or_default();
        match session_of(output.as_str().unwrap_or_default()) {
            Some(session) if left > 0 => {
                let number = number_of(ours.call_id.as_deref(), &self.prefix).saturating_add(1);
                let wait = left.clamp(SHORTEST_WAIT, LONGEST_WAIT);
                let arguments =
                    json!({ "session_id": session, "chars": "", "yield_time_ms": wait });
                self.call("write_stdin", number, &arguments)
            }
            session => {
                let text = if session.is_some() { "The time is up." } else { "Checked." };
                json!({
                    "type": "message", "role": "assistant", "status": "completed",
                    "id": format!("{}end", self.prefix),
                    "content": [{ "type": "output_text", "text": text, "annotations": [] }],
                })
            }
        }
    }

    fn call(&self, tool: &str, number: u64, arguments: &Value) -> Value {
        json!({
            "type": "function_call", "name": tool, "arguments": arguments.to_string(),
            "call_id": format!("{}{number}", self.prefix), "status": "completed",
        })
    }
}

/// The session that a reply says goes on.
fn session_of(reply: &str) -> Option<i64> {
    let (header, _) = reply.split_once("\nOutput:\n")?;
    let mut lines = header.lines();
    lines.find_map(|line| line.strip_prefix("Process running with session ID ")?.parse().ok())
}

fn number_of(call_id: Option<&str>, prefix: &str) -> u64 {
    let number = call_id.and_then(|id| id.strip_prefix(prefix)?.parse().ok());
    number.unwrap_or_default()
}

#[async_trait]
impl Model for CheckModel {
    async fn respond(
        &self,
        request: &ModelRequest,
        _: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        let item = self.next(&request.input, self.elapsed());
        Ok(ModelResponse {
            id: None,
            model: request.model.clone(),
            output: vec![Item::from_value(&item)],
            // Nobody was asked, so nothing was used.
            usage: Usage::default(),
            cost: None,
            first_output: None,
        })
    }

    fn label(&self) -> Option<&str> {
        Some("check")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_call_that_is_waited_for_until_its_time_is_up() {
        let limit = Duration::from_secs(600);
        let check = Check { command: "make".into(), limit, race: "r".into() };
        let model = CheckModel::new(&check);
        let after = |input: &[Item], seconds| model.next(input, Duration::from_secs(seconds));
        let arguments = |item: &Value| -> Value {
            serde_json::from_str(item["arguments"].as_str().unwrap()).unwrap()
        };
        let reply = |call: &Value, text: &str| {
            let item = json!({"type": "function_call_output", "call_id": call["call_id"],
                "output": text});
            Item::from_value(&item)
        };
        let runs = "Chunk ID: 1\nProcess running with session ID 1007\nOutput:\n";
        let ended = "Chunk ID: 1\nProcess exited with code 0\nOutput:\nProcess running with \
                     session ID 1\n";
        // Another run's calls, with ids of their own, are none of its business.
        let other = Item::from_value(&json!({"type": "function_call_output",
            "call_id": "call_1", "output": ended}));
        let first = after(std::slice::from_ref(&other), 0);
        assert_eq!(
            (&first["name"], &arguments(&first)["cmd"]),
            (&json!("exec_command"), &json!("make"))
        );
        let mut input = vec![other, reply(&first, runs)];
        let second = after(&input, 30);
        assert_eq!(arguments(&second)["session_id"], 1007);
        assert_eq!(arguments(&second)["yield_time_ms"], 300_000);
        assert_ne!(second["call_id"], first["call_id"]);
        assert_eq!(arguments(&after(&input, 599))["yield_time_ms"], 5_000);
        assert_eq!(after(&input, 600)["type"], "message");
        input.push(reply(&second, ended));
        assert_eq!(after(&input, 40)["type"], "message");
    }

    #[test]
    fn the_end_of_an_output_is_told() {
        let long: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!(tail(&long).lines().next(), Some("80"));
        assert_eq!(tail("a\nb"), "a\nb");
    }
}
