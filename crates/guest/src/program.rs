use std::sync::OnceLock;

static PROGRAM: &[u8] = include_bytes!(env!("MOAT_GUEST_PROGRAM"));

/// The guest program: a static executable for [`program_arch`].
pub fn program() -> &'static [u8] {
    PROGRAM
}

/// The architecture that [`program`] is for, by the name that Rust gives it.
pub fn program_arch() -> &'static str {
    std::env::consts::ARCH
}

/// BLAKE3 of [`program`].
pub fn program_hash() -> [u8; 32] {
    static HASH: OnceLock<[u8; 32]> = OnceLock::new();
    *HASH.get_or_init(|| *blake3::hash(PROGRAM).as_bytes())
}
