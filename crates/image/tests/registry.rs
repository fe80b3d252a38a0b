//! Images from a registry on this machine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "support/builder.rs"]
#[expect(dead_code, reason = "also used by others")]
mod builder;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/still.rs"]
mod still;

use std::sync::{Arc, Mutex};

use builder::{Built, Tar};
use moat_core::Retryable as _;
use moat_image::{Digest, ImageCache, ImageError, Progress, RegistryPassword};
use registry::{Registry, Shelf};
use still::Still;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn built() -> Built {
    let layer = Tar::default().file("one", &[7; 100_000]).end();
    Built::default().layer(layer).layer(Tar::default().file("two", b"2").end())
}

/// A shelf with an image at `a/b:good`, and in an index at `a/b:many`.
fn shelf(built: &Built) -> Shelf {
    let (blobs, manifest) = built.blobs();
    let mut shelf = Shelf::default();
    for (hex, bytes) in &blobs {
        let path = format!("a/b/blobs/sha256:{hex}");
        shelf.things.insert(path, ("application/octet-stream".to_owned(), bytes.clone()));
    }
    let digest: Digest = manifest["digest"].as_str().unwrap().parse().unwrap();
    let text = blobs[digest.hex()].clone();
    let put = |shelf: &mut Shelf, name: &str, kind: &str, bytes: &[u8]| {
        let path = format!("a/b/manifests/{name}");
        shelf.things.insert(path, (kind.to_owned(), bytes.to_vec()));
    };
    put(&mut shelf, "good", MANIFEST, &text);
    put(&mut shelf, &digest.to_string(), MANIFEST, &text);
    let (mut here, mut other) = (manifest.clone(), manifest);
    let architecture = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
    here["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
    other["platform"] = serde_json::json!({ "os": "linux", "architecture": "s390x" });
    let index = |all: &[&serde_json::Value]| {
        serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, "manifests": all })).unwrap()
    };
    put(&mut shelf, "many", INDEX, &index(&[&other, &here]));
    put(&mut shelf, "foreign", INDEX, &index(&[&other]));
    shelf
}

async fn fetch(cache: &ImageCache, name: &str) -> Result<moat_image::Image, ImageError> {
    cache.fetch(&name.parse().unwrap(), Arc::new(Still), Arc::new(|_| {})).await
}

#[tokio::test]
async fn an_image_is_fetched_once() {
    let built = built();
    let registry = Registry::start(shelf(&built)).await;
    let top = tempfile::tempdir().unwrap();
    let cache = ImageCache::new(top.path());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    let name = format!("{}/a/b:many", registry.address);
    let image = cache
        .fetch(
            &name.parse().unwrap(),
            Arc::new(Still),
            Arc::new(move |progress| listener.lock().unwrap().push(progress)),
        )
        .await
        .unwrap();
    assert_eq!(image.digest, Some(Digest::of(&built.config())));
    assert_eq!(std::fs::read(image.folder.join("layer")).unwrap().len(), still::length(&built));
    let total = built.layers[0].1.len() as u64;
    let heard = heard.lock().unwrap().clone();
    assert!(heard.contains(&Progress::Fetching { layer: 1, layers: 2, bytes: total, total }));
    assert!(heard.contains(&Progress::Unpacking { layer: 2, layers: 2 }));
    // The second time only what says which image it is is asked for.
    let before = registry.asked.lock().unwrap().len();
    fetch(&cache, &format!("{}/a/b:good", registry.address)).await.unwrap();
    let asked = registry.asked.lock().unwrap()[before..].to_vec();
    let layer = Digest::of(&built.layers[0].1).to_string();
    assert!(!asked.iter().any(|path| path.contains(&layer)), "{asked:?}");
    let left: Vec<_> = std::fs::read_dir(top.path().join("images")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_registry_that_lies_is_found_out() {
    let built = built();
    let layer = Digest::of(&built.layers[0].1).to_string();
    let config = Digest::of(&built.config()).to_string();
    let blob = |digest: &str| format!("a/b/blobs/{digest}");
    type Lie = Box<dyn Fn(&mut Shelf)>;
    let change = |path: String, change: fn(&mut Vec<u8>)| -> Lie {
        Box::new(move |shelf| change(&mut shelf.things.get_mut(&path).unwrap().1))
    };
    let cases: Vec<(&str, &str, Lie)> = vec![
        ("a layer that is another", "layer 1|blob", change(blob(&layer), |bytes| bytes[600] ^= 1)),
        (
            "a layer that is cut",
            "too early|blob",
            change(blob(&layer), |bytes| bytes.truncate(999)),
        ),
        ("a layer that is longer", "blob", change(blob(&layer), |bytes| bytes.push(0))),
        (
            "another configuration",
            "configuration|blob",
            change(blob(&config), |bytes| bytes[30] ^= 1),
        ),
        (
            "no text",
            "makes no sense|manifest",
            change("a/b/manifests/good".to_owned(), |bytes| {
                *bytes = b"{\"schemaVersion\":2}".to_vec();
            }),
        ),
        (
            "an old manifest",
            "version|schema",
            change("a/b/manifests/good".to_owned(), |bytes| {
                *bytes = b"{\"schemaVersion\":1}".to_vec();
            }),
        ),
        (
            "a manifest without end",
            "4194304 bytes",
            change("a/b/manifests/good".to_owned(), |bytes| {
                bytes.resize(5 << 20, b' ');
            }),
        ),
    ];
    for (what, reason, lie) in cases {
        let mut shelf = shelf(&built);
        lie(&mut shelf);
        let registry = Registry::start(shelf).await;
        let top = tempfile::tempdir().unwrap();
        let cache = ImageCache::new(top.path());
        let refused = fetch(&cache, &format!("{}/a/b:good", registry.address)).await.unwrap_err();
        let said = refused.to_string();
        assert!(reason.split('|').any(|reason| said.contains(reason)), "{what}: {said}");
        let left = std::fs::read_dir(top.path().join("images")).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(left.iter().all(|name| name.ends_with(".lock")), "{what} leaves {left:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_for_this_machine_is_said() {
    let registry = Registry::start(shelf(&built())).await;
    let top = tempfile::tempdir().unwrap();
    let cache = ImageCache::new(top.path());
    let refused = async |name: &str| {
        fetch(&cache, &format!("{}/{name}", registry.address)).await.unwrap_err()
    };
    assert!(refused("a/b:foreign").await.to_string().contains("s390x"));
    assert!(matches!(refused("a/b:none").await, ImageError::Registry { .. }));
    let other = format!("a/b@sha256:{}", "0".repeat(64));
    assert!(matches!(refused(&other).await, ImageError::Registry { .. }));
    let gone = fetch(&cache, "127.0.0.1:1/a/b").await.unwrap_err();
    assert!(gone.is_retryable(), "{gone}");
    let small = moat_image::ImageLimits { stored_bytes: 1000, ..Default::default() };
    let small = cache.clone().with_limits(small);
    let refused = fetch(&small, &format!("{}/a/b:good", registry.address)).await.unwrap_err();
    assert!(matches!(refused, ImageError::TooLarge { .. }), "{refused}");
}

#[tokio::test]
async fn a_password_is_given_to_its_registry_only() {
    let password = Some(("user".to_owned(), "pass".to_owned()));
    let registry = Registry::start(Shelf { password, ..shelf(&built()) }).await;
    let top = tempfile::tempdir().unwrap();
    let name = format!("{}/a/b:good", registry.address);
    let cache = ImageCache::new(top.path());
    assert!(fetch(&cache, &name).await.is_err());
    let address = registry.address.clone();
    let cache = cache.with_passwords(Arc::new(move |registry| {
        (registry == address)
            .then(|| RegistryPassword { user: "user".to_owned(), password: "pass".to_owned() })
    }));
    fetch(&cache, &name).await.unwrap();
    let wrong = RegistryPassword { user: "user".to_owned(), password: "hidden".to_owned() };
    assert!(!format!("{wrong:?}").contains("hidden"));
}
