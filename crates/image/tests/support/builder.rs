//! Writes tar streams and images as strangers may have made them.

use std::collections::BTreeMap;

use moat_image::Digest;

/// A tar stream in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// What a member is, and what it says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a str,
    pub(crate) flag: u8,
    pub(crate) link: &'a str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) content: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(crate) fn new(path: &'a str, flag: u8) -> Self {
        let mode = if flag == b'5' { 0o755 } else { 0o644 };
        Self { path, flag, link: "", mode, owner: (0, 0), content: b"" }
    }
}

impl Tar {
    pub(crate) fn entry(mut self, entry: &Entry<'_>) -> Self {
        if entry.path.len() > 100 {
            self = self.extension(b'L', entry.path.as_bytes());
        }
        let mut block = [0_u8; 512];
        let mut put = |start: usize, bytes: &[u8]| {
            block[start..start + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &entry.path.as_bytes()[..entry.path.len().min(100)]);
        put(100, format!("{:07o}\0", entry.mode).as_bytes());
        put(108, format!("{:07o}\0", entry.owner.0).as_bytes());
        put(116, format!("{:07o}\0", entry.owner.1).as_bytes());
        put(124, format!("{:011o}\0", entry.content.len()).as_bytes());
        put(136, format!("{:011o}\0", 1_000_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[entry.flag]);
        put(157, entry.link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.padded(entry.content)
    }

    fn padded(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A header before the next member, with this content.
    pub(crate) fn extension(self, flag: u8, content: &[u8]) -> Self {
        self.entry(&Entry { content, ..Entry::new("extension", flag) })
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(&Entry::new(path, b'5'))
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(&Entry { content, ..Entry::new(path, b'0') })
    }

    pub(crate) fn symlink(self, path: &str, link: &str) -> Self {
        self.entry(&Entry { link, ..Entry::new(path, b'2') })
    }

    pub(crate) fn hardlink(self, path: &str, link: &str) -> Self {
        self.entry(&Entry { link, ..Entry::new(path, b'1') })
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// An image: its layers, decompressed, and how each is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Built {
    pub(crate) layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) environment: Vec<String>,
    pub(crate) architecture: Option<String>,
}

impl Built {
    /// Adds a layer that is stored as it is.
    pub(crate) fn layer(self, tar: Vec<u8>) -> Self {
        let stored = tar.clone();
        self.stored_layer(tar, stored)
    }

    /// Adds a layer that is stored in another form.
    pub(crate) fn stored_layer(mut self, tar: Vec<u8>, stored: Vec<u8>) -> Self {
        self.layers.push((tar, stored));
        self
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff_ids: Vec<_> =
            self.layers.iter().map(|(tar, _)| Digest::of(tar).to_string()).collect();
        serde_json::to_vec(&serde_json::json!({
            "architecture": self.architecture.as_deref().unwrap_or(here),
            "os": "linux",
            "config": { "Env": self.environment, "Cmd": ["/bin/sh"], "User": "", "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": [],
        }))
        .unwrap()
    }

    /// As `docker save` writes it.
    pub(crate) fn docker_archive(&self) -> Vec<u8> {
        let config = self.config();
        let name = format!("{}.json", Digest::of(&config).hex());
        let mut tar = Tar::default().file(&name, &config);
        let mut names = Vec::new();
        for (number, (_, stored)) in self.layers.iter().enumerate() {
            names.push(format!("{number}/layer.tar"));
            tar = tar.file(&format!("{number}/layer.tar"), stored);
        }
        let list = serde_json::json!([{ "Config": name, "RepoTags": ["x:y"], "Layers": names }]);
        tar.file("manifest.json", &serde_json::to_vec(&list).unwrap()).end()
    }

    /// As blobs by their digest, and the manifest's digest and size.
    pub(crate) fn blobs(&self) -> (BTreeMap<String, Vec<u8>>, serde_json::Value) {
        let mut blobs = BTreeMap::new();
        let mut add = |kind: &str, bytes: Vec<u8>| {
            let (digest, size) = (Digest::of(&bytes), bytes.len());
            blobs.insert(digest.hex().to_owned(), bytes);
            serde_json::json!({ "mediaType": kind, "digest": digest.to_string(), "size": size })
        };
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(_, stored)| add("application/vnd.oci.image.layer.v1.tar", stored.clone()))
            .collect();
        let config = add("application/vnd.oci.image.config.v1+json", self.config());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers,
        });
        let manifest = add(kind, serde_json::to_vec(&manifest).unwrap());
        (blobs, manifest)
    }

    /// As files of an OCI layout, by their path.
    pub(crate) fn layout(&self, tag: &str) -> BTreeMap<String, Vec<u8>> {
        let (blobs, mut manifest) = self.blobs();
        manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": tag });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
        let mut files: BTreeMap<String, Vec<u8>> =
            blobs.into_iter().map(|(hex, bytes)| (format!("blobs/sha256/{hex}"), bytes)).collect();
        files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
        files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }
}
