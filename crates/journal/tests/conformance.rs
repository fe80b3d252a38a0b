//! The embedded journal passes the suite that every journal has to pass.

use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::TenantKey;
use moat_journal::sqlite::{SqliteJournal, SqliteOptions};
use moat_journal::{Journal, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::check(|| {
        let options = SqliteOptions {
            data_dir: dir.path().join("data"),
            anchors_dir: dir.path().join("keys/anchors"),
            tenant_key: TenantKey::new([1; 32]),
            blobs: Arc::new(FolderBlobs::new(dir.path().join("blobs"), [2; 32])),
        };
        Arc::new(SqliteJournal::open(options).unwrap()) as Arc<dyn Journal>
    })
    .await;
}
