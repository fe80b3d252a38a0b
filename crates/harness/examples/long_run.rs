//! One run of many turns, in this process: a model that answers without HTTP, a function tool, a
//! journal on disk. What it costs is the harness's own: `bench/run` weighs the process and the
//! folder (figure 11).
//!
//! `long_run TURNS DATA_DIR KEY_DIR`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moat_blobs::FolderBlobs;
use moat_core::{AgentRecord, Item, RunOptions, RunOutcome, TenantId, TenantKey, Usage};
use moat_harness::machine::Status;
use moat_harness::tool::{FunctionTool, ToolError, ToolOutput};
use moat_harness::{Harness, HarnessOptions, NewRun};
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_model::{DeltaSink, Model, ModelError, ModelRequest, ModelResponse};
use moat_snapshot::Snapshots;

/// Calls the tool until it has done so `turns` times, then says so.
struct Repeating {
    turns: usize,
}

#[async_trait]
impl Model for Repeating {
    async fn respond(
        &self,
        request: &ModelRequest,
        _deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        // A turn adds a call and its output to the one message at the start.
        let turn = request.input.len() / 2;
        let item = if turn < self.turns {
            serde_json::json!({
                "type": "function_call", "id": format!("fc_{turn}"), "status": "completed",
                "call_id": format!("call_{turn}"), "name": "echo", "arguments": "{\"text\":\"hi\"}",
            })
        } else {
            serde_json::json!({
                "type": "message", "id": "msg_0", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "done", "annotations": []}],
            })
        };
        Ok(ModelResponse {
            id: Some(format!("resp_{turn}")),
            model: request.model.clone(),
            output: vec![Item::from_value(&item)],
            usage: Usage { requests: 1, ..Usage::default() },
            cost: None,
            first_output: None,
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: long_run TURNS DATA_DIR KEY_DIR";
    let turns: usize = arguments.next().ok_or(usage)?.parse()?;
    let data_dir = PathBuf::from(arguments.next().ok_or(usage)?);
    let anchors_dir = PathBuf::from(arguments.next().ok_or(usage)?);

    let tenant_key = TenantKey::new([7; 32]);
    let blobs =
        Arc::new(FolderBlobs::new(data_dir.join("blobs"), *Snapshots::blob_key(&tenant_key)));
    let harness = Harness::new(HarnessOptions {
        tenant: TenantId::local(),
        snapshots: Snapshots::new(blobs.clone(), &tenant_key),
        journal: Arc::new(SqliteJournal::open(SqliteOptions {
            data_dir: data_dir.clone(),
            anchors_dir,
            tenant_key,
            blobs: blobs.clone(),
        })?),
        blobs,
        model: Arc::new(Repeating { turns }),
        provider: None,
        images: None,
        network: None,
        mounter: None,
        tools: vec![Arc::new(FunctionTool::new("echo", "Says it again.", |_| async {
            Ok::<_, ToolError>(ToolOutput::from("hi\n"))
        }))],
        spool_dir: data_dir.join("spool"),
        secrets: Default::default(),
        orphan_grace: Duration::ZERO,
        allow_missing: Vec::new(),
    });
    let agent = AgentRecord {
        name: "bench".to_owned(),
        model: "none".to_owned(),
        tools: harness.function_tools(),
        ..AgentRecord::default()
    };
    let new = NewRun {
        agent,
        input: vec![Item::user_message("go")],
        options: RunOptions { max_turns: None, ..RunOptions::default() },
        files: None,
        environment: Default::default(),
        sandbox: Default::default(),
        origin: None,
        labels: Default::default(),
        parent: None,
    };
    match harness.start(new).await?.drive().await? {
        Status::Finished(RunOutcome::Final { .. }) => Ok(()),
        other => Err(format!("the run ended as {other:?}").into()),
    }
}
