//! Moat as a library: agents in sandboxes, durably, from Rust.
//!
//! The parts are crates of their own; this one puts them under one name. The smallest run with a
//! function tool, a scripted model and no sandbox:
//!
//! ```
//! use std::sync::Arc;
//!
//! use moat::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let key = TenantKey::new([7; 32]); // kept outside the data folder
//! let blobs = Arc::new(FolderBlobs::new(folder.join("data/blobs"), *Snapshots::blob_key(&key)));
//! let journal = SqliteJournal::open(SqliteOptions {
//!     data_dir: folder.join("data"),
//!     anchors_dir: folder.join("anchors"),
//!     tenant_key: key.clone(),
//!     blobs: blobs.clone(),
//! })?;
//! let clock = FunctionTool::new("clock", "Tells the time.", |_call| async {
//!     Ok::<_, ToolError>(ToolOutput::from("noon"))
//! });
//! let model = ScriptedModel::new([
//!     vec![Item::from_json(r#"{"type":"function_call","call_id":"1","name":"clock","arguments":"{}"}"#.into())?],
//!     vec![Item::from_json(r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"It is noon."}]}"#.into())?],
//! ]);
//! let harness = Harness::new(HarnessOptions {
//!     tenant: TenantId::local(),
//!     journal: Arc::new(journal),
//!     snapshots: Snapshots::new(blobs.clone(), &key),
//!     blobs,
//!     model: Arc::new(model),
//!     provider: None,
//!     images: None,
//!     network: None,
//!     mounter: None,
//!     tools: vec![Arc::new(clock)],
//!     spool_dir: folder.join("spool"),
//!     secrets: Default::default(),
//!     orphan_grace: std::time::Duration::from_secs(600),
//!     allow_missing: vec![],
//! });
//! let agent = AgentRecord {
//!     name: "clerk".into(),
//!     model: "gpt-5.5".into(),
//!     tools: harness.function_tools(),
//!     ..AgentRecord::default()
//! };
//! let mut run = harness.start(NewRun::new(agent, "What time is it?")).await?;
//! run.drive().await?;
//! assert_eq!(run.state().last_message().as_deref(), Some("It is noon."));
//! # Ok(())
//! # }
//! ```

pub use moat_blobs as blobs;
pub use moat_core as core;
pub use moat_egress as egress;
pub use moat_harness as harness;
pub use moat_journal as journal;
pub use moat_model as model;
pub use moat_sandbox as sandbox;
#[cfg(feature = "docker")]
pub use moat_sandbox_docker as sandbox_docker;
pub use moat_sandbox_local as sandbox_local;
pub use moat_snapshot as snapshot;
pub use moat_writeback as writeback;

/// What most programs need.
pub mod prelude {
    pub use moat_blobs::{BlobStore, FolderBlobs};
    pub use moat_core::{
        AgentRecord, Event, EventBody, Item, RunId, RunOptions, RunOutcome, Secret, TenantId,
        TenantKey,
    };
    pub use moat_harness::agent::AgentSpec;
    pub use moat_harness::driver::{Driver, Observer};
    pub use moat_harness::machine::{State, Status};
    pub use moat_harness::tool::{FunctionTool, Tool, ToolCall, ToolError, ToolOutput};
    pub use moat_harness::{Changes, Harness, HarnessOptions, NewRun};
    pub use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
    pub use moat_journal::{Claim, Journal};
    pub use moat_model::{
        Model, ReplayModel, ResponsesModel, ResponsesOptions, ScriptedModel, Transcript,
    };
    pub use moat_sandbox::Provider;
    pub use moat_sandbox_local::{LocalOptions, LocalProvider};
    pub use moat_snapshot::Snapshots;
}
