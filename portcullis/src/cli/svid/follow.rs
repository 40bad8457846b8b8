//! An identity followed through its renewals, for commands that stay.

use ca_agent::client::{WorkloadClient, X509Context};

use super::{Global, Socket, address, obtain, unavailable};
use crate::client::Fault;
use crate::output;

/// Gives each state that differs from the one before, from the first on, until `end` is there.
///
/// # Errors
/// When there is no identity at first, when it is withdrawn, or when `each` fails. What was given must not be used on
/// then.
pub(super) async fn follow<E>(
    socket: &Socket,
    global: &Global,
    mut each: impl FnMut(&X509Context) -> Result<(), Fault>,
    end: impl Future<Output = E>,
) -> Result<E, Fault> {
    let context = obtain(socket, global).await?;
    each(&context)?;
    renewals(socket, global, &context, each, end).await
}

/// The same from a state on that is known already.
///
/// # Errors
/// As [`follow`].
pub(super) async fn renewals<E>(
    socket: &Socket,
    global: &Global,
    known: &X509Context,
    mut each: impl FnMut(&X509Context) -> Result<(), Fault>,
    end: impl Future<Output = E>,
) -> Result<E, Fault> {
    let mut current = print(known);
    let address = address(socket, global)?;
    let client = WorkloadClient::connect(&address).await.map_err(|error| unavailable(&error))?;
    let mut updates = client.watch_x509();
    tokio::pin!(end);
    loop {
        let update = tokio::select! {
            end = &mut end => return Ok(end),
            update = updates.next() => update,
        };
        match update {
            Ok(context) => {
                let next = print(&context);
                if next != current {
                    each(&context)?;
                    current = next;
                }
            }
            Err(error) if error.is_denied() => return Err(unavailable(&error)),
            // The agent restarts or is short of its authority; the next call of `next` connects again.
            Err(error) => output::talk(&format!("waiting for the Workload API: {error}")),
        }
    }
}

/// What two equal states have in common: certificates, hints and roots.
fn print(context: &X509Context) -> Vec<(Vec<u8>, Option<String>)> {
    let svids = context
        .svids
        .iter()
        .map(|svid| (svid.leaf().map(|leaf| leaf.to_vec()).unwrap_or_default(), svid.hint.clone()));
    svids.chain(context.bundles.iter().map(|bundle| (bundle.to_der(), None))).collect()
}
