use std::sync::atomic::{AtomicU32, Ordering};

use moat_core::{RunId, TenantId};

use crate::sqlite::lock::Locks;

/// The file is removed whenever the lock is let go, so those who wait for it meet files that are
/// gone already. Whoever locks such a file must not take it for the run's lock.
#[test]
fn at_any_moment_one_holds_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (locks, tenant, run) = (Locks::new(dir.path()), TenantId::local(), RunId::generate());
    let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let Some(lock) = locks.take(&tenant, run, 1).unwrap() else { continue };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                    taken.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(locks.holder(&tenant, run, 1).unwrap(), Some(std::process::id()));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
    assert!(taken.into_inner() > 20);
    assert_eq!(locks.holder(&tenant, run, 1).unwrap(), None);
    assert_eq!(std::fs::read_dir(dir.path().join("locks")).unwrap().count(), 0, "left-overs");
}
