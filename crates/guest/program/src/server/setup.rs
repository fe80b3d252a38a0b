//! Becoming the guest.

use std::fs::File;
use std::io::Read as _;
use std::time::Instant;

use moat_guest::{CONFIG_FD, LISTENER_FD, MAX_HEADER, RawBytes, to_hex};
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;
use rustix::rand::GetRandomFlags;

use super::*;
use crate::limits::Limits;
use crate::sys;

impl Server {
    /// Takes over what the launcher left open, and hides from commands.
    pub(crate) fn start() -> Result<Self, String> {
        let listener = sys::adopt(LISTENER_FD).map_err(failed("take over the socket"))?;
        let config = sys::adopt(CONFIG_FD).map_err(failed("take over the configuration"))?;
        let config = read_config(config)?;
        Self::begin(config, listener, rustix::process::getpid().is_init())
    }

    /// Becomes the guest. `alone`: every other process there is belongs to a command, so that all
    /// can be signalled at once.
    pub(crate) fn begin(
        config: GuestConfig,
        listener: OwnedFd,
        alone: bool,
    ) -> Result<Self, String> {
        #[cfg(feature = "mutations")]
        crate::left_out::remember(&config.environment);
        let outputs = config.outputs_fd.map(sys::adopt).transpose();
        let outputs = outputs.map_err(failed("take over the outputs folder"))?;
        let network = config.network_fds.iter().map(|fd| sys::adopt(*fd)).collect::<Result<_, _>>();
        let network = network.map_err(failed("take over the network's sockets"))?;
        let limits = Limits::open(&config.limits);
        let limits = limits.map_err(failed("take over the kernel's counters"))?;
        let first_process = rustix::process::getpid().is_init();
        crate::oom::open();
        hide(first_process).map_err(|error| format!("cannot hide from commands: {error}"))?;
        let children = sys::take_signals().map_err(failed("take over signals"))?;
        rustix::io::ioctl_fionbio(&listener, true)
            .map_err(|error| format!("cannot use the socket: {error}"))?;
        let files = Files::open(&config, outputs)?;
        let roots = [&config.roots.workspace, &config.roots.home].map(RawBytes::to_path);
        let watch = Watch::new(&limits, roots.into(), alone);
        let mut server = Self {
            poll: Poll::new().map_err(|error| format!("cannot wait for events: {error}"))?,
            listener: Watched::new(listener, Source::Listener),
            children: Watched::new(children, Source::Children),
            nonce: draw_nonce()?,
            epoch: config.epoch,
            orphan_grace: Duration::from_millis(config.orphan_grace_ms),
            first_process,
            alone: alone || !first_process,
            connections: BTreeMap::new(),
            next_connection: 0,
            processes: Processes::new(&config, limits, alone),
            watch,
            paused: None,
            files,
            commits: Commits::default(),
            freezer: Freezer::new(alone),
            network,
            end: Some(Instant::now() + Duration::from_millis(config.start_grace_ms)),
            is_ending: false,
            next_step: None,
        };
        let watched = [&mut server.listener, &mut server.children];
        watched
            .into_iter()
            .try_for_each(|watched| watched.watch(&server.poll, EventFlags::IN))
            .map_err(|error| format!("cannot wait for events: {error}"))?;
        Ok(server)
    }
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}

fn read_config(fd: OwnedFd) -> Result<GuestConfig, String> {
    let mut text = Vec::new();
    File::from(fd)
        .take(MAX_HEADER as u64)
        .read_to_end(&mut text)
        .map_err(|error| format!("cannot read the configuration: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("bad configuration: {error}"))
}

fn hide(first_process: bool) -> rustix::io::Result<()> {
    rustix::thread::set_name(c"moat-guest")?;
    // Nobody of the same user may trace it or look into its memory and descriptors.
    if crate::left_out::stands("dumpable") {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    } else {
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if !first_process {
        // Orphans come to the guest, as they would to a first process.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    Ok(())
}

fn draw_nonce() -> Result<String, String> {
    let mut nonce = [0; 16];
    rustix::rand::getrandom(&mut nonce, GetRandomFlags::empty())
        .map_err(|error| format!("cannot draw a nonce: {error}"))?;
    Ok(to_hex(&nonce))
}
