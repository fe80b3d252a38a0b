//! Any files are an export of a run or an error, and after an error there is no run that was not there
//! before. The bytes are taken in the place of some of a real export's, or of all of them.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moat_blobs::{BlobStore, FolderBlobs};
use moat_core::{AgentRecord, Item, TenantId, TenantKey};
use moat_harness::transfer::Trust;
use moat_harness::{Harness, HarnessOptions, NewRun};
use moat_journal::Journal;
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_model::ScriptedModel;
use moat_snapshot::Snapshots;
use tokio::runtime::Runtime;

const FILES: [&str; 2] = ["run.json", "events.0.jsonl"];

struct Stage {
    runtime: Runtime,
    journal: Arc<dyn Journal>,
    harness: Harness,
    folder: PathBuf,
    /// The files of a real export.
    real: [Vec<u8>; 2],
}

impl Stage {
    fn make() -> Self {
        let folder = Path::new("/dev/shm").join(format!("moat-fuzz-import-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("there is memory");
        let key = TenantKey::new([7; 32]);
        let blobs: Arc<dyn BlobStore> =
            Arc::new(FolderBlobs::new(folder.join("data/blobs"), *Snapshots::blob_key(&key)));
        let journal = SqliteJournal::open(SqliteOptions {
            data_dir: folder.join("data"),
            anchors_dir: folder.join("anchors"),
            tenant_key: key.clone(),
            blobs: blobs.clone(),
        });
        let journal: Arc<dyn Journal> = Arc::new(journal.expect("a journal"));
        let said = r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Noon."}]}"#;
        let said = Item::from_json(said.to_owned()).expect("an item");
        let harness = Harness::new(HarnessOptions {
            tenant: TenantId::local(),
            journal: journal.clone(),
            snapshots: Snapshots::new(blobs.clone(), &key),
            blobs,
            model: Arc::new(ScriptedModel::new([vec![said]])),
            provider: None,
            images: None,
            network: None,
            mounter: None,
            tools: Vec::new(),
            spool_dir: folder.join("spool"),
            secrets: Default::default(),
            orphan_grace: Duration::from_secs(600),
            allow_missing: Vec::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let from = folder.join("real");
        std::fs::create_dir(&from).expect("a folder");
        runtime.block_on(async {
            let agent = AgentRecord {
                name: "clerk".into(),
                model: "gpt-5.5".into(),
                ..AgentRecord::default()
            };
            let mut run =
                harness.start(NewRun::new(agent, "What time is it?")).await.expect("a run");
            run.drive().await.expect("it ends");
            let id = run.run();
            drop(run);
            let _ = harness.export(id, &from, false).await.expect("an export");
        });
        let real = FILES.map(|name| std::fs::read(from.join(name)).expect("a file"));
        Self { runtime, journal, harness, folder, real }
    }

    async fn runs(&self) -> usize {
        self.journal.list(&TenantId::local(), 1_000_000).await.expect("a list").len()
    }
}

fuzz_target!(|edits: Vec<(bool, u16, u16, Vec<u8>)>| {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    let stage = STAGE.get_or_init(Stage::make);
    let mut files = stage.real.clone();
    for (which, at, length, bytes) in edits.into_iter().take(8) {
        let file = &mut files[usize::from(which)];
        let start = usize::from(at).min(file.len());
        let end = start.saturating_add(usize::from(length)).min(file.len());
        file.splice(start..end, bytes);
    }
    let folder = stage.folder.join("import");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, bytes) in FILES.iter().zip(&files) {
        std::fs::write(folder.join(name), bytes).expect("a file");
    }
    stage.runtime.block_on(async {
        let before = stage.runs().await;
        match stage.harness.import(&folder, Trust::Nobody).await {
            Ok(_) => assert!(stage.runs().await > before),
            Err(_) => assert_eq!(stage.runs().await, before, "an error left a run behind"),
        }
    });
});
