/// What an image may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of a manifest, an index or a configuration.
    pub manifest_bytes: u64,
    /// Layers.
    pub layers: usize,
    /// Bytes of all layers as they are stored.
    pub stored_bytes: u64,
    /// Bytes of all layers when decompressed.
    pub unpacked_bytes: u64,
    /// Files, folders and links in all layers.
    pub entries: u64,
    /// How many times larger than stored a layer may become, past its first 16 MiB.
    pub ratio: u64,
}

impl Default for ImageLimits {
    /// 4 MiB of manifest, 128 layers, 16 GiB stored, 64 GiB and 4 million entries unpacked, a ratio
    /// of 250.
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            layers: 128,
            stored_bytes: 16 << 30,
            unpacked_bytes: 64 << 30,
            entries: 4_000_000,
            ratio: 250,
        }
    }
}
