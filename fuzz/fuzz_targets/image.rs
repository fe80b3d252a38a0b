//! Any bytes are an image or an error: an archive of `docker save`, an archive in the OCI layout, and
//! the name of an image. What is unpacked stays within its bounds, and errors leave nothing behind.
#![no_main]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use moat_image::{
    ImageCache, ImageLimits, ImageReference, LayerBounds, LayerCount, Unpack, UnpackError,
};

const LIMITS: ImageLimits = ImageLimits {
    manifest_bytes: 1 << 16,
    layers: 4,
    stored_bytes: 1 << 20,
    unpacked_bytes: 1 << 20,
    entries: 100,
    ratio: 250,
};
/// What may be decompressed before the ratio counts, and a buffer.
const MOST: u64 = (16 << 20) + (1 << 20);

/// Reads layers, and unpacks nothing.
struct Reads;

impl Unpack for Reads {
    fn owners(&self) -> &str {
        "fuzz"
    }

    fn begin(&self, _: &Path) -> Result<(), UnpackError> {
        Ok(())
    }

    fn apply(
        &self,
        _: &Path,
        layer: &mut dyn Read,
        bounds: LayerBounds,
    ) -> Result<LayerCount, UnpackError> {
        let read = std::io::copy(layer, &mut std::io::sink())?;
        assert!(read <= MOST && bounds.bytes <= LIMITS.unpacked_bytes);
        Ok(LayerCount { entries: 1, bytes: read.min(bounds.bytes), devices: 0 })
    }

    fn remove(&self, folder: &Path) -> Result<(), UnpackError> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()) {
        let name: ImageReference = name;
        assert_eq!(name.to_string().parse().ok(), Some(name));
    }
    let folder = folder();
    let file = folder.join("archive");
    std::fs::write(&file, bytes).expect("the archive is written");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for reference in [
        ImageReference::DockerArchive(file.clone()),
        ImageReference::LayoutArchive { file, tag: None },
    ] {
        let cache = ImageCache::new(folder.join("images")).with_limits(LIMITS);
        let fetched = cache.fetch(&reference, Arc::new(Reads), Arc::new(|_| ()));
        let is_there = runtime.block_on(fetched).is_ok();
        let kept = cache.list().map_or(0, |list| list.len());
        assert!(is_there || kept == 0, "an error left something behind");
        let _ = std::fs::remove_dir_all(folder.join("images"));
    }
});

/// In memory, and one for each process.
fn folder() -> PathBuf {
    let folder = Path::new("/dev/shm").join(format!("moat-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is memory");
    folder
}
