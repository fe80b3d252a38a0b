//! A world for the machine: a model and tools that are functions of what they are asked.

use moat_core::{
    AgentRecord, ApprovalGiven, CallFinished, CallReport, CallRolledBack, CallStarted, Category,
    Epoch, Event, EventBody, EventHeader, Item, ModelAnswered, ModelFailed, ModelRequested,
    RunContinued, RunId, RunOptions, RunPaused, RunResumed, RunStarted, SandboxAttached,
    SandboxLost, Seq, TenantId, ToolNotFound, ToolRecord, Usage,
};
use proptest::prelude::*;
use serde_json::json;

use crate::machine::{Action, CallRun, State, Status, output_item};

/// A generated run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    turns: Vec<Vec<PlannedCall>>,
    max_turns: u32,
    failures: Vec<bool>,
    tell_unknown: bool,
}

#[derive(Clone, Debug)]
enum PlannedCall {
    Plain,
    Custom,
    Asks { approve: bool },
    Unknown,
}

impl Plan {
    pub(super) fn one_call() -> Self {
        Self {
            turns: vec![vec![PlannedCall::Plain, PlannedCall::Custom]],
            max_turns: 10,
            failures: Vec::new(),
            tell_unknown: true,
        }
    }
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let call = prop_oneof![
        4 => Just(PlannedCall::Plain),
        2 => Just(PlannedCall::Custom),
        1 => any::<bool>().prop_map(|approve| PlannedCall::Asks { approve }),
        1 => Just(PlannedCall::Unknown),
    ];
    let turns = prop::collection::vec(prop::collection::vec(call, 1..4), 0..4);
    let failures = prop::collection::vec(any::<bool>(), 0..3);
    (turns, 1..6_u32, failures, prop::bool::weighted(0.8)).prop_map(
        |(turns, max_turns, failures, tell_unknown)| Plan {
            turns,
            max_turns,
            failures,
            tell_unknown,
        },
    )
}

pub(super) struct World<'a> {
    plan: &'a Plan,
    /// Calls that were begun when the world starts lose their sandbox.
    sandbox_lost: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, sandbox_lost: bool) -> Self {
        Self { plan, sandbox_lost }
    }

    fn answer(&self, turn: u32) -> Vec<Item> {
        let at = usize::try_from(turn).unwrap() - 1;
        let Some(calls) = self.plan.turns.get(at) else {
            return vec![Item::from_value(&json!({
                "type": "message", "role": "assistant",
                "content": [{ "type": "output_text", "text": format!("done in {turn}") }],
            }))];
        };
        let calls = calls.iter().enumerate().map(|(index, call)| {
            let id = format!("c{turn}.{index}");
            Item::from_value(&match call {
                PlannedCall::Custom => {
                    json!({ "type": "custom_tool_call", "call_id": id, "name": "custom", "input": "x" })
                }
                other => {
                    let name = match other {
                        PlannedCall::Asks { .. } => "asks",
                        PlannedCall::Unknown => "nobody",
                        _ => "plain",
                    };
                    json!({ "type": "function_call", "call_id": id, "name": name, "arguments": "{}" })
                }
            })
        });
        calls.collect()
    }

    fn approves(&self, call_id: &str) -> bool {
        let (turn, index) = call_id[1..].split_once('.').unwrap();
        let calls = &self.plan.turns[turn.parse::<usize>().unwrap() - 1];
        matches!(calls[index.parse::<usize>().unwrap()], PlannedCall::Asks { approve: true })
    }
}

/// Drives a run from its events so far to its end.
pub(super) fn drive(world: &World<'_>, past: Vec<Event>) -> Vec<Event> {
    let mut log = Log::new(past);
    if log.events.is_empty() {
        log.push(world.plan.started());
    }
    if matches!(log.state.status(), Status::Paused(..)) {
        log.push(RunResumed::default());
    }
    let mut lost = world.sandbox_lost;
    for _ in 0..200 {
        match log.state.next() {
            Action::Record(events) => events.into_iter().for_each(|event| log.push(event)),
            Action::CallModel(call) => log.ask(world, call.turn, call.attempt),
            Action::RunCalls(runs) => {
                let begun: Vec<_> = runs.iter().filter(|run| run.begun).collect();
                if std::mem::take(&mut lost) && !begun.is_empty() {
                    for run in begun {
                        log.push(CallRolledBack {
                            of: run.key.seq,
                            index: run.key.index,
                            attempt: run.key.attempt,
                        });
                    }
                } else {
                    log.run(&runs);
                }
            }
            Action::Wait => log.approve(world),
            Action::Rest => return log.events,
        }
    }
    panic!("the run does not end: {:?}", log.state.status());
}

impl Plan {
    fn started(&self) -> RunStarted {
        let tool = |name: &str, category, needs_approval| ToolRecord {
            name: name.into(),
            category,
            wire: json!({ "name": name }),
            sandbox: true,
            needs_approval,
            on_unknown: Default::default(),
        };
        RunStarted {
            agent: AgentRecord {
                name: "Main".into(),
                tools: vec![
                    tool("plain", Category::Function, false),
                    tool("custom", Category::Custom, false),
                    tool("asks", Category::Function, true),
                ],
                ..AgentRecord::default()
            },
            input: vec![Item::user_message("go")],
            options: RunOptions {
                max_turns: Some(self.max_turns),
                tool_not_found: match self.tell_unknown {
                    true => ToolNotFound::ReturnErrorToModel,
                    false => ToolNotFound::RaiseError,
                },
                ..RunOptions::default()
            },
            environment: Default::default(),
            sandbox: Default::default(),
            allow_missing: Vec::new(),
            parent: None,
            forked_from: None,
            origin: None,
            labels: Default::default(),
        }
    }
}

struct Log {
    run: RunId,
    state: State,
    events: Vec<Event>,
}

impl Log {
    fn new(events: Vec<Event>) -> Self {
        let run = events.first().map_or_else(RunId::generate, |event| event.header.run);
        let mut state = State::default();
        events.iter().for_each(|event| state.apply(event).unwrap());
        Self { run, state, events }
    }

    fn push(&mut self, body: impl Into<EventBody>) {
        let body = body.into();
        let event = Event {
            header: EventHeader {
                tenant: TenantId::local(),
                run: self.run,
                seq: Seq(self.events.len() as u64 + 1),
                epoch: Epoch(1),
                at: 0,
                actor: "test".into(),
                kind: body.kind().to_owned(),
                version: body.version(),
                must_understand: body.must_understand(),
            },
            body,
        };
        self.state.apply(&event).unwrap();
        self.events.push(event);
    }

    fn ask(&mut self, world: &World<'_>, turn: u32, attempt: u32) {
        let (items, prefix) = self.state.prefix();
        let model = String::new();
        self.push(ModelRequested { turn, attempt, model, items, prefix, offered: None });
        let fails = world.plan.failures.get(usize::try_from(turn).unwrap());
        if attempt == 1 && fails == Some(&true) {
            self.push(ModelFailed {
                turn,
                attempt,
                class: "timeout".into(),
                status: None,
                message: "slow".into(),
                retry_in_ms: Some(1),
                resumable: true,
            });
            return;
        }
        self.push(ModelAnswered {
            turn,
            attempt,
            response_id: None,
            model: String::new(),
            output: world.answer(turn),
            usage: Usage::default(),
            cost: None,
            duration_ms: 0,
            first_output_ms: None,
        });
    }

    fn run(&mut self, runs: &[CallRun]) {
        for run in runs.iter().filter(|run| !run.begun) {
            self.push(CallStarted {
                of: run.key.seq,
                index: run.key.index,
                attempt: run.key.attempt,
                call_id: run.call_id.clone(),
                tool: run.tool.clone(),
                category: run.category,
                sandbox: None,
            });
        }
        // Outcomes come in another order than the calls stand in.
        for run in runs.iter().rev() {
            let output = json!(format!("{} ran", run.call_id));
            self.push(CallFinished {
                of: run.key.seq,
                index: run.key.index,
                attempt: run.key.attempt,
                output: Some(output_item(run.category, &run.call_id, &output)),
                report: CallReport::default(),
            });
        }
    }

    fn approve(&mut self, world: &World<'_>) {
        let reason = moat_core::PauseReason::Approval;
        self.push(RunPaused { reason, message: String::new() });
        let (of, _, _) = self.state.open_answer().unwrap();
        let waiting: Vec<_> =
            self.state.waiting().iter().map(|call| (call.index, call.call_id.clone())).collect();
        for (index, call_id) in waiting {
            let approved = world.approves(&call_id);
            self.push(ApprovalGiven { of, index, approved, message: None, always: false });
        }
    }
}

/// The same events, and that the run is taken up again with sandboxes from elsewhere.
pub(super) fn moved(events: &[Event], to: &str) -> Vec<Event> {
    let mut log = Log::new(events.to_vec());
    log.push(RunResumed { sandbox: Some(to.to_owned()), ..RunResumed::default() });
    log.events
}

/// The one that a run has is left, and stays known until another is attached; all that comes after
/// it folds.
#[test]
fn a_run_that_moves_leaves_its_sandbox_for_another() {
    let attached = |provider: &str, boot: &str| SandboxAttached {
        provider: provider.to_owned(),
        handle: json!({ "id": boot }),
        nonce: moat_core::BootNonce(boot.to_owned()),
        missing_fences: Vec::new(),
        notes: Vec::new(),
    };
    let (first, second) = ("01".repeat(16), "02".repeat(16));
    let plan = Plan::one_call();
    let mut log = Log::new(drive(&World::new(&plan, false), Vec::new())[..2].to_vec());
    log.push(attached("local", &first));
    let mut log = Log::new(moved(&log.events, "docker:image"));
    let known = log.state.sandbox().unwrap();
    assert!(known.left && known.provider == "local");
    assert_eq!(log.state.sandbox_settings().provider.as_deref(), Some("docker:image"));
    log.push(SandboxLost { nonce: moat_core::BootNonce(first), reason: String::new() });
    assert!(log.state.sandbox().is_none());
    log.push(attached("docker", &second));
    assert!(log.state.sandbox().is_some_and(|known| !known.left));
    // The same again changes nothing.
    let log = Log::new(moved(&log.events, "docker:image"));
    assert!(log.state.sandbox().is_some_and(|known| !known.left));
}

/// More input reopens a run whatever it ended with, and leaves a valid history.
#[test]
fn more_input_goes_on_after_any_end() {
    for (max_turns, tell_unknown) in [(10, true), (1, true), (10, false)] {
        let plan = Plan {
            turns: vec![vec![PlannedCall::Plain], vec![PlannedCall::Unknown]],
            max_turns,
            failures: Vec::new(),
            tell_unknown,
        };
        let mut log = Log::new(drive(&World::new(&plan, false), Vec::new()));
        log.push(RunContinued {
            input: vec![Item::user_message("more")],
            options: None,
            model: None,
            sandbox: None,
        });
        assert!(matches!(log.state.next(), Action::CallModel(_)));
        let items: Vec<_> = log.state.conversation().iter().map(|e| e.item.fields()).collect();
        let calls =
            items.iter().filter(|item| item.kind.as_deref() == Some("function_call")).count();
        let outputs = items.iter().filter(|i| i.kind.as_deref() == Some("function_call_output"));
        assert_eq!(calls, outputs.count());
    }
}
