//! Hot upgrade, from the side of the process that runs (UP-01): it starts the binary at its own path, hands over copies of
//! all its sockets, gives up state and APIs when the other says that it could serve, and its sockets when the other does.
//!
//! Whatever goes wrong before that leaves this process serving: it takes its state back and says why. Which process has
//! what at which moment is written down in docs/decisions/0012.

mod attempts;
mod relieved;
mod succession;
mod successor;
mod word;

use std::time::Duration;

pub(crate) use attempts::Upgrades;
pub(crate) use relieved::Relieved;
pub(crate) use succession::Predecessor;
pub(crate) use successor::Program;

use super::Running;
use super::running::Released;
use crate::messages::Message;
use successor::Successor;
use word::Word;

/// Tries to take the state back after an upgrade that failed, and the time between two.
const TRIES: usize = 5;
const BETWEEN: Duration = Duration::from_secs(1);

/// How an upgrade ended.
pub(crate) enum Upgraded {
    /// This process goes on.
    Stays(Box<Running>),
    /// The other serves; what runs here still may end.
    Relieved(Box<Relieved>),
    /// The other failed, and this process cannot take its state back.
    Lost(Box<Relieved>, Message),
}

/// Has `program` take the place of this process, if it says within `patience` that it can; calls that run then have
/// `grace` to end (DR-02).
pub(crate) async fn upgrade(
    running: Running,
    program: &Program,
    patience: Duration,
    grace: Duration,
) -> Upgraded {
    let process = running.process.clone();
    tracing::info!(event = "upgrade", program = %program.path().display(), "another process is to take over");
    let mut successor = match Successor::begin(&running, program, patience).await {
        Ok(successor) => successor,
        Err(why) => {
            process.upgrades.failed(&why);
            return Upgraded::Stays(Box::new(running));
        }
    };
    let released = match running.release().await {
        Ok(released) => released,
        Err((running, fault)) => {
            successor.end().await;
            process.upgrades.failed(&fault.in_one_line());
            return Upgraded::Stays(running);
        }
    };
    let told =
        successor.say(Word::Released { config: released.config.digest(), policies: released.policies }).await;
    let ready = match told {
        Ok(()) => successor.hear(patience).await,
        Err(why) => Err(why),
    };
    let why = match ready {
        Ok(Word::Ready) => {
            return Upgraded::Relieved(Box::new(Relieved::begin(released, successor, grace).await));
        }
        Ok(word) => word.refusal(),
        Err(why) => why,
    };
    successor.end().await;
    process.upgrades.failed(&why);
    resume(released, grace).await
}

/// Takes state and APIs back.
async fn resume(released: Released, grace: Duration) -> Upgraded {
    let Released { process, config, mut plane, aside, policies } = released;
    process.sockets.keep();
    let mut fault = Message::error("PC9001", "no try was made");
    for _ in 0..TRIES {
        match super::start((*config).clone(), &process, &mut plane).await {
            Ok(running) => {
                aside.close().await;
                running.accept();
                return Upgraded::Stays(Box::new(running));
            }
            Err(error) => {
                tracing::error!(
                    event = "not_resumed",
                    fault = error.in_one_line(),
                    "the state cannot be taken back yet"
                );
                fault = error;
                tokio::time::sleep(BETWEEN).await;
            }
        }
    }
    let released = Released { process, config, plane, aside, policies };
    Upgraded::Lost(Box::new(Relieved::alone(released, grace)), fault)
}
