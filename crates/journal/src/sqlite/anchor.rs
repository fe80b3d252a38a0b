use std::path::PathBuf;

pub(super) struct Anchors {
    dir: PathBuf,
}

impl Anchors {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}
