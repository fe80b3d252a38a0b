//! The SSH agent of the host, as a sandbox may use it: named keys, for logins only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::border::{Border, Protocol, Subject, denial};
use crate::policy::DenyReason;
use crate::sign::{AgentFilter, AgentStep, SignRefused};

/// Bytes taken at once, each way.
const CHUNK: usize = 8 << 10;

/// Serves connections from inside from the agent at `path`.
pub(crate) async fn serve(
    border: Arc<Border>,
    mut clients: mpsc::Receiver<UnixStream>,
    path: PathBuf,
) {
    while let Some(client) = clients.recv().await {
        let (border, path) = (Arc::clone(&border), path.clone());
        let tasks = border.tasks.clone();
        tasks.spawn(async move {
            // A client that breaks the protocol, or an agent that is gone, ends its connection.
            let _ = converse(&border, client, &path).await;
        });
    }
}

async fn converse(border: &Border, mut client: UnixStream, path: &Path) -> Option<()> {
    let wait = border.limits.connect_wait;
    let mut agent = timeout(wait, UnixStream::connect(path)).await.ok()?.ok()?;
    let mut filter = AgentFilter::new(border.rules.get().ssh_keys().to_vec());
    let (mut asked, mut answered) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let turn = async {
            // One question at a time, so that nothing piles up here.
            let is_waiting = filter.is_waiting();
            tokio::select! {
                count = client.read(&mut asked), if !is_waiting => Some((true, count.ok()?)),
                count = agent.read(&mut answered) => Some((false, count.ok()?)),
            }
        };
        let (from_client, count) = timeout(border.limits.idle, turn).await.ok()??;
        if count == 0 {
            return None;
        }
        let steps = match from_client {
            true => filter.from_client(asked.get(..count)?).ok()?,
            false => filter.from_agent(answered.get(..count)?).ok()?,
        };
        for step in steps {
            take(border, step, &mut client, &mut agent).await?;
        }
    }
}

async fn take(
    border: &Border,
    step: AgentStep,
    client: &mut UnixStream,
    agent: &mut UnixStream,
) -> Option<()> {
    let wait = border.limits.request_wait;
    let subject = Subject::new("ssh-agent", 0, Protocol::Ssh);
    match step {
        AgentStep::ToAgent(bytes) => timeout(wait, agent.write_all(&bytes)).await.ok()?.ok(),
        AgentStep::ToClient(bytes) => timeout(wait, client.write_all(&bytes)).await.ok()?.ok(),
        AgentStep::Signing(key, user) => {
            let user: String = user.chars().take(64).collect();
            let rule = format!("login as {} with {key}", user.escape_default());
            border.allow(&subject, rule, Vec::new());
            Some(())
        }
        AgentStep::Refused(refused) => {
            let what = match refused {
                SignRefused::Key => "the key is not one of `ssh_keys`",
                SignRefused::NoLogin => "only logins are signed",
            };
            border.deny(&subject, &denial(DenyReason::NotSigned, what));
            Some(())
        }
    }
}
