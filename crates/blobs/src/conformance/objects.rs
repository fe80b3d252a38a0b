use std::sync::Arc;

use bytes::Bytes;

use crate::{ObjectError, Objects};

/// Runs the whole suite on a store of objects. `open` makes a new one over the same place each
/// time, as another process would.
pub async fn check(open: impl Fn() -> Arc<dyn Objects>) {
    keeps_and_never_overwrites(&*open(), &*open()).await;
    reads_parts(&*open()).await;
    says_what_is_missing(&*open()).await;
    lists(&*open()).await;
    refuses_other_names(&*open()).await;
    one_of_many_creates(&open).await;
    leases(&open).await;
}

async fn keeps_and_never_overwrites(one: &dyn Objects, other: &dyn Objects) {
    for bytes in [vec![], vec![7], vec![9; 3 << 20]] {
        let name = format!("keeps/{}", bytes.len());
        assert!(one.create(&name, bytes.clone().into()).await.unwrap());
        assert_eq!(other.get(&name, 3 << 20).await.unwrap(), bytes, "seen at once");
        assert!(!other.create(&name, Bytes::from_static(b"else")).await.unwrap());
        assert!(!one.create(&name, bytes.clone().into()).await.unwrap());
        assert_eq!(one.get(&name, 3 << 20).await.unwrap(), bytes, "not overwritten");
        assert!(other.remove(&name).await.unwrap());
        assert!(!one.remove(&name).await.unwrap());
        assert!(one.create(&name, bytes.into()).await.unwrap(), "the name is free again");
    }
}

async fn reads_parts(store: &dyn Objects) {
    let bytes: Vec<u8> = (0..=255).collect();
    store.create("parts/a", bytes.into()).await.unwrap();
    assert_eq!(store.read("parts/a", 0, 3).await.unwrap(), [0, 1, 2][..]);
    assert_eq!(store.read("parts/a", 254, 100).await.unwrap(), [254, 255][..]);
    assert_eq!(store.read("parts/a", 256, 100).await.unwrap(), b""[..]);
    assert_eq!(store.read("parts/a", 3, 0).await.unwrap(), b""[..]);
    assert_eq!(store.read("parts/a", u64::MAX - 1, u64::MAX).await.unwrap(), b""[..]);
    match store.get("parts/a", 255).await {
        Err(ObjectError::TooLarge { size: 256, limit: 255, .. }) => {}
        other => panic!("an object over the limit must be refused, got {other:?}"),
    }
}

async fn says_what_is_missing(store: &dyn Objects) {
    for name in ["none/here", "none"] {
        assert!(matches!(store.get(name, 9).await, Err(ObjectError::Missing { .. })), "{name}");
        assert!(matches!(store.read(name, 0, 9).await, Err(ObjectError::Missing { .. })), "{name}");
        assert!(!store.remove(name).await.unwrap());
        assert!(store.list(name).await.unwrap().is_empty());
    }
}

async fn lists(store: &dyn Objects) {
    for name in ["list/b", "list/a", "list2/c", "list/c"] {
        store.create(name, name.as_bytes().to_vec().into()).await.unwrap();
    }
    let listed = store.list("list").await.unwrap();
    let names: Vec<_> = listed.iter().map(|object| (object.name.as_str(), object.size)).collect();
    assert_eq!(names, [("list/a", 6), ("list/b", 6), ("list/c", 6)]);
}

async fn refuses_other_names(store: &dyn Objects) {
    for name in ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "A", "a b", "a\0", "ä"] {
        let refused = store.create(name, Bytes::from_static(b"x")).await;
        assert!(matches!(refused, Err(ObjectError::Name { .. })), "{name:?}: {refused:?}");
        assert!(matches!(store.get(name, 1).await, Err(ObjectError::Name { .. })), "{name:?}");
        assert!(matches!(store.remove(name).await, Err(ObjectError::Name { .. })), "{name:?}");
    }
}

async fn one_of_many_creates(open: &impl Fn() -> Arc<dyn Objects>) {
    let tasks: Vec<_> = (0..8_u8)
        .map(|number| {
            let store = open();
            tokio::spawn(async move {
                store.create("race/one", vec![number; 100_000].into()).await.unwrap()
            })
        })
        .collect();
    let mut created = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        if task.await.unwrap() {
            created.push(number as u8);
        }
    }
    assert_eq!(created.len(), 1, "exactly one creates a name");
    let bytes = open().get("race/one", 100_000).await.unwrap();
    assert_eq!(bytes, vec![created.first().copied().unwrap_or_default(); 100_000]);
}

async fn leases(open: &impl Fn() -> Arc<dyn Objects>) {
    let (one, other) = (open(), open());
    assert!(one.leases().await.unwrap().is_empty());
    let first = one.lease().await.unwrap();
    let second = one.lease().await.unwrap();
    let mut seen = other.leases().await.unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [first.began(), second.began()]);
    drop(first);
    drop(second);
    // An object store is told in the background.
    for _ in 0..100 {
        if other.leases().await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("leases stay after they were dropped");
}
