//! Images from archives and layouts, good and bad.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "support/builder.rs"]
#[expect(dead_code, reason = "also used by others")]
mod builder;
#[path = "support/still.rs"]
mod still;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use builder::{Built, Tar};
use moat_image::{Digest, Image, ImageCache, ImageError, ImageLimits};
use still::Still;

async fn fetch(cache: &ImageCache, name: &str) -> Result<Image, ImageError> {
    cache.fetch(&name.parse().unwrap(), Arc::new(Still), Arc::new(|_| {})).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With a frame that means nothing before it, as some writers put one.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let frame =
        |part| ruzstd::encoding::compress_to_vec(part, ruzstd::encoding::CompressionLevel::Fastest);
    [skipped, frame(first), frame(second)].concat()
}

/// One layer of each form.
fn built() -> Built {
    let layer = |name: &str| Tar::default().file(name, &vec![5; 3 << 20]).end();
    let (plain, gzipped, zstded) = (layer("plain"), layer("gzip"), layer("zstd"));
    let (in_gzip, in_zstd) = (gzip(&gzipped), zstd(&zstded));
    let built = Built { environment: vec!["A=b=c".to_owned()], ..Default::default() };
    built.layer(plain).stored_layer(gzipped, in_gzip).stored_layer(zstded, in_zstd)
}

fn write_layout(folder: &Path, built: &Built, tag: &str) {
    for (path, bytes) in built.layout(tag) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn the_same_image_from_anywhere_is_unpacked_once() {
    let top = tempfile::tempdir().unwrap();
    let built = built();
    let path = |name: &str| top.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("docker.tar"), built.docker_archive()).unwrap();
    write_layout(Path::new(&path("layout")), &built, "v1");
    let archive = built
        .layout("v1")
        .into_iter()
        .fold(Tar::default(), |tar, (path, bytes)| tar.file(&format!("./{path}"), &bytes));
    std::fs::write(path("oci.tar"), archive.end()).unwrap();
    let cache = ImageCache::new(path("cache"));
    let mut unpacked = Vec::new();
    for name in [
        format!("docker-archive:{}", path("docker.tar")),
        format!("oci:{}", path("layout")),
        format!("oci:{}:v1", path("layout")),
        format!("oci-archive:{}:v1", path("oci.tar")),
    ] {
        let image = fetch(&cache, &name).await.unwrap();
        assert_eq!(image.config.environment["A"], "b=c");
        assert_eq!(std::fs::read(image.folder.join("layer")).unwrap().len(), still::length(&built));
        let made = std::fs::metadata(image.folder.join("layer")).unwrap().modified().unwrap();
        unpacked.push((image.folder, made));
    }
    unpacked.dedup();
    assert_eq!(unpacked.len(), 1);
    let listed = cache.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].image.digest, Some(Digest::of(&built.config())));
    cache.remove(&listed[0].key, Arc::new(Still)).await.unwrap();
    assert!(cache.list().unwrap().is_empty() && !unpacked[0].0.exists());
    cache.remove("../../etc", Arc::new(Still)).await.unwrap_err();
    let missing = fetch(&cache, &format!("oci:{}:v2", path("layout"))).await.unwrap_err();
    assert!(missing.to_string().contains("`v1`"), "{missing}");
    let folder = fetch(&cache, &format!("dir:{}", path("layout"))).await.unwrap();
    assert_eq!(folder.digest, None);
}

#[tokio::test]
async fn two_that_want_the_same_unpack_it_once_and_what_the_dead_left_goes() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("image.tar");
    std::fs::write(&file, built().docker_archive()).unwrap();
    let name = format!("docker-archive:{}", file.display());
    let cache = ImageCache::new(top.path().join("cache"));
    let key = format!("{}-still", Digest::of(&built().config()).hex());
    let dead = top.path().join("cache/images").join(format!(".new-{key}-00"));
    std::fs::create_dir_all(dead.join("rootfs/half")).unwrap();
    let all = (0..4).map(|_| fetch(&cache, &name));
    let mut images = Vec::new();
    for one in futures_util::future::join_all(all).await {
        images.push(one.unwrap());
    }
    images.dedup();
    assert_eq!(images.len(), 1);
    assert_eq!(
        std::fs::read(images[0].folder.join("layer")).unwrap().len(),
        still::length(&built())
    );
    assert!(!dead.exists());
}

#[tokio::test]
async fn damage_and_bombs_are_found_and_leave_nothing() {
    let bomb = vec![0; 20 << 20];
    let wrong_content = |mut built: Built| {
        built.layers[0].1 = Tar::default().file("other", b"x").end();
        built
    };
    let plain = || Built::default().layer(Tar::default().file("f", b"x").end());
    let foreign = Built { architecture: Some("s390x".to_owned()), ..plain() };
    let nameless = Built { environment: vec!["=x".to_owned()], ..plain() };
    let many = (0..129).fold(Built::default(), |built, _| built.layer(Tar::default().end()));
    let cut = Built::default().stored_layer(bomb.clone(), gzip(&bomb)[..2000].to_vec());
    for (what, reason, built) in [
        ("a layer that is another", "layer 1 is not what", wrong_content(plain())),
        ("another machine's", "s390x", foreign),
        ("a variable without a name", "no name", nameless),
        ("too many layers", "128 layers", many),
        (
            "a bomb in gzip",
            "times what is stored",
            Built::default().stored_layer(bomb.clone(), gzip(&bomb)),
        ),
        (
            "a bomb in zstd",
            "times what is stored",
            Built::default().stored_layer(bomb.clone(), zstd(&bomb)),
        ),
        ("a layer that is cut", "layer 1", cut),
    ] {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("image.tar");
        std::fs::write(&file, built.docker_archive()).unwrap();
        let cache = ImageCache::new(top.path().join("cache"));
        let name = format!("docker-archive:{}", file.display());
        let refused = fetch(&cache, &name).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{what}: {refused}");
        let left =
            std::fs::read_dir(top.path().join("cache/images")).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(left.iter().all(|name| name.ends_with(".lock")), "{what} leaves {left:?}");
        // With the bound raised, it is the bound that was in the way.
        if what.starts_with("a bomb") {
            let cache = cache.with_limits(ImageLimits { ratio: 100_000, ..ImageLimits::default() });
            fetch(&cache, &name).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_layout_that_lies_is_found_out() {
    let top = tempfile::tempdir().unwrap();
    let built = built();
    let config = Digest::of(&built.config());
    let layer = Digest::of(&built.layers[1].1);
    for (what, file, reason) in [
        ("the configuration", format!("blobs/sha256/{}", config.hex()), "configuration"),
        ("a layer", format!("blobs/sha256/{}", layer.hex()), "layer 2"),
        ("the index", "index.json".to_owned(), "index.json"),
        ("the mark", "oci-layout".to_owned(), "oci-layout"),
    ] {
        let folder = top.path().join(what);
        write_layout(&folder, &built, "v1");
        let mut bytes = std::fs::read(folder.join(&file)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x80;
        std::fs::write(folder.join(&file), bytes).unwrap();
        let cache = ImageCache::new(top.path().join("cache"));
        let refused = fetch(&cache, &format!("oci:{}", folder.display())).await.unwrap_err();
        assert!(refused.to_string().contains(reason), "{what}: {refused}");
    }
    let text = top.path().join("text");
    std::fs::write(&text, "no archive at all").unwrap();
    for kind in ["docker-archive", "oci-archive"] {
        fetch(&ImageCache::new(top.path()), &format!("{kind}:{}", text.display()))
            .await
            .unwrap_err();
    }
    let compressed = top.path().join("compressed");
    std::fs::write(&compressed, gzip(&built.docker_archive())).unwrap();
    let name = format!("docker-archive:{}", compressed.display());
    let refused = fetch(&ImageCache::new(top.path()), &name).await.unwrap_err();
    assert!(refused.to_string().contains("decompress it"), "{refused}");
}
