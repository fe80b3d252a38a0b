use tokio::sync::mpsc::Receiver;

use super::Verdict;
use super::bench::{Bench, Lab, Problem, SOON};
use crate::{Command, GuestError, ProcessEvent};

/// A process with a terminal, and what it has said.
struct Terminal<'a> {
    lab: &'a Lab,
    key: moat_core::CallKey,
    events: Receiver<ProcessEvent>,
    said: String,
    code: Option<i32>,
}

impl<'a> Terminal<'a> {
    /// `None`: the sandbox says that it has no terminals, by the error that is for this.
    async fn start(lab: &'a Lab, script: &str) -> Result<Option<Self>, Problem> {
        let command = Command { tty: Some((31, 97)), ..lab.shell(script) };
        match lab.guest.start(&command).await {
            Err(GuestError::Unsupported(_)) => return Ok(None),
            started => started?,
        };
        let events = lab.guest.attach(command.key, 0).await?;
        Ok(Some(Self { lab, key: command.key, events, said: String::new(), code: None }))
    }

    async fn type_as(&self, call: moat_core::CallKey, text: &str) -> Result<(), Problem> {
        Ok(self.lab.guest.write_stdin(self.key, call, text.as_bytes()).await?)
    }

    /// Listens until it has said something, or has ended if that is `None`.
    async fn hear(&mut self, awaited: Option<&str>) -> Result<(), Problem> {
        loop {
            if awaited.is_some_and(|text| self.said.contains(text)) || self.code.is_some() {
                return Ok(());
            }
            match tokio::time::timeout(SOON, self.events.recv()).await {
                Ok(Some(ProcessEvent::Output { bytes, .. })) => {
                    self.said.push_str(&String::from_utf8_lossy(&bytes));
                }
                Ok(Some(ProcessEvent::Exited(exit))) => self.code = Some(exit.code),
                other => {
                    let problem = format!("{other:?} while {awaited:?} was awaited");
                    return Err(Problem(format!("{problem} after {:?}", self.said)));
                }
            }
        }
    }
}

pub(super) async fn typed_once(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let script = "stty -echo; echo ready; read a; read b; echo \"got $a-$b\" >/dev/tty";
    let Some(mut terminal) = Terminal::start(&lab, script).await? else { return Ok(()) };
    terminal.hear(Some("ready")).await?;
    let first = lab.key();
    terminal.type_as(first, "one\n").await?;
    terminal.type_as(first, "one\n").await?;
    terminal.type_as(lab.key(), "two\n").await?;
    terminal.hear(None).await?;
    ensure!(terminal.said.contains("got one-two"), "it said {:?}", terminal.said);
    ensure!(terminal.code == Some(0), "it ended with {:?}", terminal.code);
    Ok(())
}

pub(super) async fn sizes(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let Some(mut terminal) = Terminal::start(&lab, "stty size; read x; stty size").await? else {
        return Ok(());
    };
    terminal.hear(Some("31 97")).await?;
    lab.guest.resize(terminal.key, 50, 132).await?;
    terminal.type_as(lab.key(), "\n").await?;
    terminal.hear(None).await?;
    ensure!(terminal.said.contains("50 132"), "it said {:?}", terminal.said);
    Ok(())
}

pub(super) async fn control_characters(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let Some(mut terminal) = Terminal::start(&lab, "echo ready; exec sleep 300").await? else {
        return Ok(());
    };
    terminal.hear(Some("ready")).await?;
    terminal.type_as(lab.key(), "\x03").await?;
    terminal.hear(None).await?;
    ensure!(terminal.code == Some(-2), "Ctrl-C ended it with {:?}", terminal.code);
    Ok(())
}

pub(super) async fn no_input_without(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let key = lab.start("sleep 300").await?;
    let typed = lab.guest.write_stdin(key, lab.key(), b"x").await;
    ensure!(matches!(typed, Err(GuestError::StdinClosed)), "{typed:?}");
    lab.guest.signal(key, 9).await?;
    Ok(())
}
