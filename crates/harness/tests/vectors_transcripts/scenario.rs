//! Runs a transcript's steps through the real driver and journal, with a scripted model.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moat_blobs::FolderBlobs;
use moat_core::{
    AgentRecord, Category, Item, RunOptions, TenantId, TenantKey, ToolNameCollision, ToolNotFound,
    ToolRecord, Usage,
};
use moat_harness::machine::State;
use moat_harness::tool::{Failure, FunctionTool, OnTimeout, Tool, ToolCall, ToolError, ToolOutput};
use moat_harness::{Harness, HarnessOptions, NewRun};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_model::{DeltaSink, Model, ModelError, ModelErrorClass, ModelRequest, ModelResponse};
use moat_snapshot::Snapshots;
use serde_json::Value;

const OPTIONS: &[&str] = &[
    "max_turns",
    "tool_not_found_behavior",
    "tool_name_collision_policy",
    "max_function_tool_concurrency",
];
const FAMILIES: &[&str] = &["plain", "tool", "turns"];

/// What one step came to.
pub(crate) struct Step {
    pub(crate) state: State,
    pub(crate) requests: Vec<ModelRequest>,
    pub(crate) executed: Vec<String>,
    pub(crate) left: usize,
}

/// What a transcript needs that is not here; `None`: it can be run.
pub(crate) fn needs_more(id: &str, input: &Value) -> Option<String> {
    let family = id.split('-').next().unwrap_or_default();
    if !FAMILIES.contains(&family) {
        return Some(family.to_owned());
    }
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for agent in array(&input["agents"]) {
        for member in ["handoffs", "guardrails", "output_schema", "tool_use_behavior"] {
            if agent.get(member).is_some() {
                return Some(member.to_owned());
            }
        }
        for tool in array(&agent["tools"]) {
            if !matches!(tool["kind"].as_str().unwrap_or("function"), "function" | "web_search") {
                return Some("other tools".to_owned());
            }
            if tool.get("needs_approval").is_some() || tool.get("guardrails").is_some() {
                return Some("approvals".to_owned());
            }
        }
    }
    for step in array(&input["steps"]) {
        let Some(run) = step.get("run") else { return Some("resume".to_owned()) };
        if run.get("continue").is_some() {
            return Some("continue".to_owned());
        }
        let options = run["options"].as_object().cloned().unwrap_or_default();
        if let Some(other) = options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
            return Some(format!("option {other}"));
        }
    }
    None
}

pub(crate) async fn run(input: &Value) -> Result<Vec<Step>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let script = Arc::new(Script::new(&input["model_script"]));
    let log = Arc::new(Log::default());
    let mut steps = Vec::new();
    for step in input["steps"].as_array().ok_or("no steps")? {
        let run = &step["run"];
        let wanted = run["agent"].as_str().unwrap_or_default();
        let agents = input["agents"].as_array().ok_or("no agents")?;
        let agent = agents.iter().find(|agent| agent["name"] == wanted).ok_or("no such agent")?;
        let tools = function_tools(agent, &log);
        let harness = harness(folder.path(), script.clone(), &tools);
        let new = new_run(run, agent, &tools);
        let mut driver = harness.start(new).await.map_err(|error| error.to_string())?;
        driver.drive().await.map_err(|error| error.to_string())?;
        steps.push(Step {
            state: driver.state().clone(),
            requests: std::mem::take(&mut *script.requests.lock().unwrap()),
            executed: std::mem::take(&mut *log.executed.lock().unwrap()),
            left: script.turns.lock().unwrap().len(),
        });
    }
    Ok(steps)
}

fn harness(folder: &std::path::Path, model: Arc<Script>, tools: &[Arc<dyn Tool>]) -> Harness {
    let key = TenantKey::new([7; 32]);
    let blobs = Arc::new(FolderBlobs::new(folder.join("data/blobs"), *Snapshots::blob_key(&key)));
    let journal = SqliteJournal::open(SqliteOptions {
        data_dir: folder.join("data"),
        anchors_dir: folder.join("anchors"),
        tenant_key: key.clone(),
        blobs: blobs.clone(),
    });
    Harness::new(HarnessOptions {
        tenant: TenantId::local(),
        journal: Arc::new(journal.unwrap()),
        blobs: blobs.clone(),
        snapshots: Snapshots::new(blobs, &key),
        model,
        provider: None,
        images: None,
        network: None,
        mounter: None,
        tools: tools.to_vec(),
        spool_dir: folder.join("spool"),
        secrets: Default::default(),
        orphan_grace: Duration::from_secs(1),
        allow_missing: Vec::new(),
    })
}

fn new_run(run: &Value, agent: &Value, tools: &[Arc<dyn Tool>]) -> NewRun {
    let input = match &run["input"] {
        Value::String(text) => vec![Item::user_message(text)],
        items => items.as_array().unwrap().iter().map(Item::from_value).collect(),
    };
    let given = &run["options"];
    let mut options = RunOptions { stream: false, ..RunOptions::default() };
    if let Some(max) = given.get("max_turns") {
        options.max_turns = max.as_u64().map(|max| max as u32);
    }
    if given["tool_not_found_behavior"] == "return_error_to_model" {
        options.tool_not_found = ToolNotFound::ReturnErrorToModel;
    }
    if given["tool_name_collision_policy"] == "error" {
        options.tool_name_collision = ToolNameCollision::Error;
    }
    options.max_tool_concurrency =
        given["max_function_tool_concurrency"].as_u64().map(|max| max as u32);
    let mut records: Vec<_> = tools.iter().map(|tool| tool.record()).collect();
    let hosted = agent["tools"].as_array().into_iter().flatten();
    for tool in hosted.filter(|tool| tool["kind"] == "web_search") {
        records.push(ToolRecord {
            name: "web_search".into(),
            category: Category::Function,
            wire: serde_json::json!({ "type": "web_search", "name": tool["name"] }),
            sandbox: false,
            needs_approval: false,
            on_unknown: Default::default(),
        });
    }
    NewRun {
        agent: AgentRecord {
            name: agent["name"].as_str().unwrap().to_owned(),
            instructions: agent["instructions"].as_str().map(str::to_owned),
            model: "main".into(),
            tools: records,
            ..AgentRecord::default()
        },
        input,
        options,
        files: None,
        environment: Default::default(),
        sandbox: Default::default(),
        origin: None,
        labels: Default::default(),
        parent: None,
    }
}

/// What tool bodies did.
#[derive(Default)]
struct Log {
    executed: Mutex<Vec<String>>,
    counts: Mutex<HashMap<String, u64>>,
}

impl Log {
    fn begin(&self, call: &ToolCall) -> u64 {
        self.executed.lock().unwrap().push(format!("{} {}", call.tool, call.call_id));
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(call.tool.clone()).or_default();
        *count += 1;
        *count
    }
}

fn function_tools(agent: &Value, log: &Arc<Log>) -> Vec<Arc<dyn Tool>> {
    let tools = agent["tools"].as_array().into_iter().flatten();
    let functions = tools.filter(|tool| tool["kind"].as_str().unwrap_or("function") == "function");
    functions.map(|tool| Arc::new(function_tool(tool, log)) as Arc<dyn Tool>).collect()
}

fn function_tool(tool: &Value, log: &Arc<Log>) -> FunctionTool {
    let name = tool["name"].as_str().unwrap();
    let (behaviour, body_log) = (tool["behaviour"].clone(), log.clone());
    let mut made =
        FunctionTool::new(name, tool["description"].as_str().unwrap_or(""), move |call| {
            let (behaviour, log) = (behaviour.clone(), body_log.clone());
            async move {
                let count = log.begin(&call);
                behave(&behaviour, &call, count).await
            }
        })
        .parameters(tool["params"].clone());
    made = match &tool["failure"] {
        Value::String(raise) if raise == "raise" => made.on_failure(Failure::Raise),
        Value::Object(template) => made.on_failure(Failure::Template(
            template["template"].as_str().unwrap_or_default().to_owned(),
        )),
        _ => made,
    };
    if let Some(limit) = tool["timeout_ms"].as_u64() {
        let raise = tool["timeout_behavior"] == "raise_exception";
        let then = if raise { OnTimeout::Raise } else { OnTimeout::Result };
        made = made.timeout(Duration::from_millis(limit), then);
    }
    match &tool["enabled"] {
        Value::Bool(false) => made.enabled_if(|| false),
        Value::String(when) if when == "first_turn" => {
            let log = log.clone();
            made.enabled_if(move || log.counts.lock().unwrap().is_empty())
        }
        _ => made,
    }
}

async fn behave(behaviour: &Value, call: &ToolCall, count: u64) -> Result<ToolOutput, ToolError> {
    let text = |name: &str| behaviour[name].as_str().unwrap_or_default().to_owned();
    Ok(match behaviour["kind"].as_str().unwrap() {
        "return_text" => text("text").into(),
        "return" => behaviour["value"].clone().into(),
        "echo" => call.arguments.clone().into(),
        "arg" => call.parse_arguments::<Value>()?[text("name")].clone().into(),
        "concat" => {
            let arguments = call.parse_arguments::<Value>()?;
            let names = behaviour["names"].as_array().unwrap().iter();
            let parts = names.map(|name| arguments[name.as_str().unwrap()].as_str().unwrap_or(""));
            parts.collect::<Vec<_>>().join(&text("sep")).into()
        }
        "count" => format!("{} #{count}", call.tool).into(),
        "raise" => return Err(ToolError::failed(text("message"))),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(behaviour["ms"].as_u64().unwrap())).await;
            return Box::pin(behave(&behaviour["then"], call, count)).await;
        }
        "fail_times" if count <= behaviour["times"].as_u64().unwrap() => {
            return Err(ToolError::failed(text("message")));
        }
        "fail_times" => match &behaviour["then"] {
            Value::String(text) => text.as_str().into(),
            then => return Box::pin(behave(then, call, count)).await,
        },
        "content" => content(behaviour),
        other => panic!("unknown behaviour {other}"),
    })
}

fn content(behaviour: &Value) -> ToolOutput {
    let parts = behaviour["parts"].as_array().unwrap();
    let wire = parts.iter().map(|part| {
        let mut part = part.clone();
        part["type"] = format!("input_{}", part["type"].as_str().unwrap()).into();
        part
    });
    let alone = behaviour["as_list"] == false;
    let value = if alone { parts[0].clone() } else { behaviour["parts"].clone() };
    ToolOutput { output: wire.collect(), value: Some(value) }
}

/// Answers turn by turn and remembers what it was asked.
struct Script {
    turns: Mutex<std::collections::VecDeque<Value>>,
    answered: Mutex<u32>,
    requests: Mutex<Vec<ModelRequest>>,
}

impl Script {
    fn new(script: &Value) -> Self {
        let turns = script.get("main").unwrap_or(script).as_array().cloned().unwrap_or_default();
        Self {
            turns: Mutex::new(turns.into()),
            answered: Mutex::default(),
            requests: Mutex::default(),
        }
    }
}

#[async_trait]
impl Model for Script {
    async fn respond(
        &self,
        request: &ModelRequest,
        _: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        self.requests.lock().unwrap().push(request.clone());
        let turn = self.turns.lock().unwrap().pop_front();
        let mut answered = self.answered.lock().unwrap();
        *answered += 1;
        let turn = turn.unwrap_or_default();
        if let Some(message) =
            turn.pointer("/error/message").or(turn.is_null().then_some(&Value::Null))
        {
            return Err(ModelError {
                class: ModelErrorClass::Scripted,
                status: None,
                message: message.as_str().unwrap_or("the script has no turns left").to_owned(),
                retry_after: None,
                should_retry: None,
            });
        }
        let output = turn.get("output").unwrap_or(&turn).as_array().unwrap();
        let number = |path: &str| turn.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        let (input_tokens, output_tokens) =
            (number("/usage/input_tokens"), number("/usage/output_tokens"));
        Ok(ModelResponse {
            id: turn["response_id"]
                .as_str()
                .map_or_else(|| Some(format!("resp_{answered}")), |id| Some(id.to_owned())),
            model: request.model.clone(),
            output: output.iter().map(Item::from_value).collect(),
            usage: Usage {
                input_tokens,
                output_tokens,
                total_tokens: input_tokens + output_tokens,
                ..Usage::default()
            },
            cost: None,
            first_output: None,
        })
    }
}
