use std::sync::Arc;

use async_trait::async_trait;
use moat_core::{Secret, TenantKey};
use moat_egress::secret::SecretSource;
use moat_egress::{Upstream, UpstreamOptions};

use super::*;
use crate::network::SecretReader;

const HOUR: Duration = Duration::from_secs(3600);

struct NoSecrets;

#[async_trait]
impl SecretReader for NoSecrets {
    async fn read(&self, _: &SecretSource) -> Result<Secret, String> {
        Err("there are none".to_owned())
    }
}

fn options(folder: &Path) -> NetworkOptions {
    NetworkOptions {
        tenant_key: TenantKey::new([7; 32]),
        folder: folder.to_owned(),
        upstream: Upstream::new(&UpstreamOptions::default()).unwrap(),
        secrets: Arc::new(NoSecrets),
        ssh_agent: None,
    }
}

fn saved(options: &NetworkOptions, run: RunId) -> Vec<u8> {
    serde_json::to_vec(&of_run(options, run).unwrap().save()).unwrap()
}

/// The run was listed as one that nobody drives, and then somebody took it up.
#[test]
fn the_authority_of_a_run_that_is_taken_up_stays() {
    let top = tempfile::tempdir().unwrap();
    let options = options(top.path());
    let run = RunId::generate();
    let first = saved(&options, run);
    let long_ago = SystemTime::now() - 3 * HOUR;
    let age = |when| File::open(path(&options, run)).unwrap().set_modified(when).unwrap();
    age(long_ago);
    assert_eq!(stored_authorities(&options, HOUR).unwrap(), [run]);
    assert_eq!(saved(&options, run), first);
    assert!(!forget_unused_authority(&options, run, HOUR).unwrap(), "it was used just now");
    assert!(stored_authorities(&options, HOUR).unwrap().is_empty());

    // Nobody took it up; but somebody is about to.
    age(long_ago);
    let reading = File::open(path(&options, run)).unwrap();
    reading.lock_shared().unwrap();
    assert!(!forget_unused_authority(&options, run, HOUR).unwrap(), "it is being read");
    drop(reading);
    assert_eq!(saved(&options, run), first);

    age(long_ago);
    assert!(forget_unused_authority(&options, run, HOUR).unwrap());
    assert!(!forget_unused_authority(&options, run, HOUR).unwrap());
    assert_ne!(saved(&options, run), first, "another, with another sandbox");
}

/// What is read while somebody removes it would be trusted in a sandbox and be gone.
#[test]
fn an_authority_that_is_being_removed_is_not_used() {
    let top = tempfile::tempdir().unwrap();
    let options = options(top.path());
    let run = RunId::generate();
    let path = path(&options, run);
    let first = saved(&options, run);
    let removing = File::open(&path).unwrap();
    removing.lock().unwrap();
    assert!(matches!(used(&path).unwrap(), Stored::Going));
    let taking_up = std::thread::spawn(move || saved(&options, run));
    std::fs::remove_file(&path).unwrap();
    drop(removing);
    assert_ne!(taking_up.join().unwrap(), first);
}
