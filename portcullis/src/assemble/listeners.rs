//! The sockets of our own APIs: each accepts through `base_net`, says who is calling, and serves with timers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use base_net::{Accepted, Bind, Caps, DrainWatch, Listener, Peer, Timers, accept_loop, deadline};
use base_ports::Tasks;
use ca_authority::service::Caller;
use ca_identity::Usage;
use ca_identity::tls::{ClientAuth, Trust, peer, server_config};
use tokio_rustls::TlsAcceptor;

use crate::admin::{self, Api};
use crate::config::{Admin, Agent};
use crate::messages::Message;
use crate::serve;

/// Local sockets are not aged: their peer is the process that connected.
const LOCAL_AGE: Duration = Duration::from_secs(7 * 86_400);

/// The SPIFFE Workload API.
pub(super) fn workload_api(
    settings: &Agent,
    agent: Arc<ca_agent::Agent>,
    tasks: &Tasks,
    drain: &DrainWatch,
) -> Result<(), Message> {
    let listener = bind(&Bind::Unix { path: settings.socket.clone(), mode: settings.socket_mode })?;
    let router = ca_agent::workload_api(agent).into_axum_router();
    accept(listener, "workload api", tasks, drain, move |accepted, tasks, drain| {
        let Peer::Unix { uid, gid, pid } = accepted.peer else { return };
        let caller = ca_agent::Caller::pin(uid, gid, pid);
        let router = router.clone();
        tasks.spawn("workload connection", async move {
            let _permit = accepted.permit;
            let stream = ca_agent::LocalStream::new(accepted.stream);
            serve::http(stream, router, LOCAL_AGE, drain, move |request| {
                request.extensions_mut().insert(caller.clone());
            })
            .await;
        });
    });
    Ok(())
}

/// The whole API on the local socket, for commands of this machine.
pub(super) fn local_api(
    settings: &Admin,
    api: &Arc<Api>,
    tasks: &Tasks,
    drain: &DrainWatch,
) -> Result<(), Message> {
    let listener = bind(&Bind::Unix { path: settings.socket.clone(), mode: settings.socket_mode })?;
    let router = admin::router(api);
    accept(listener, "local api", tasks, drain, move |accepted, tasks, drain| {
        let Peer::Unix { uid, .. } = accepted.peer else { return };
        let router = router.clone();
        tasks.spawn("local api connection", async move {
            let _permit = accepted.permit;
            serve::http(accepted.stream, router, LOCAL_AGE, drain, move |request| {
                request.extensions_mut().insert(Caller::Local { uid });
            })
            .await;
        });
    });
    Ok(())
}

/// Health, metrics and docs on loopback.
pub(super) fn public_api(
    addr: SocketAddr,
    api: &Arc<Api>,
    tasks: &Tasks,
    drain: &DrainWatch,
) -> Result<SocketAddr, Message> {
    let listener = bind(&Bind::Tcp(addr))?;
    let bound = listener.local_addr().unwrap_or(addr);
    let router = admin::public(api);
    accept(listener, "public api", tasks, drain, move |accepted, tasks, drain| {
        let router = router.clone();
        tasks.spawn("public api connection", async move {
            let _permit = accepted.permit;
            serve::http(accepted.stream, router, Timers::default().max_age, drain, |_| {}).await;
        });
    });
    Ok(bound)
}

/// Enrolment and the API for SVIDs, over TLS; a certificate is optional, an anonymous caller may only enrol.
pub(super) fn remote_api(
    addr: SocketAddr,
    trust: &Arc<Trust>,
    api: &Arc<Api>,
    tasks: &Tasks,
    drain: &DrainWatch,
) -> Result<SocketAddr, Message> {
    let listener = bind(&Bind::Tcp(addr))?;
    let bound = listener.local_addr().unwrap_or(addr);
    let acceptor = TlsAcceptor::from(server_config(trust, ClientAuth::Optional, &[b"h2", b"http/1.1"]));
    let (router, trust, clock): (Router, _, _) =
        (admin::remote(api), Arc::clone(trust), Arc::clone(&api.clock));
    accept(listener, "ca api", tasks, drain, move |accepted, tasks, drain| {
        let (acceptor, router, trust, clock) =
            (acceptor.clone(), router.clone(), Arc::clone(&trust), Arc::clone(&clock));
        tasks.spawn("ca api connection", async move {
            let _permit = accepted.permit;
            let Ok(Ok(stream)) =
                deadline::within(Timers::default().handshake, "handshake", acceptor.accept(accepted.stream))
                    .await
            else {
                return;
            };
            let Ok(verified) = peer(&trust, stream.get_ref().1.peer_certificates(), Usage::Client) else {
                return;
            };
            let age = match &verified {
                Some(verified) => {
                    verified.expires.saturating_since(clock.now().wall).min(Timers::default().max_age)
                }
                None => Duration::from_secs(60),
            };
            let caller = verified.map_or(Caller::Anonymous, |verified| Caller::Svid(verified.id));
            serve::http(stream, router, age, drain, move |request| {
                request.extensions_mut().insert(caller.clone());
            })
            .await;
        });
    });
    Ok(bound)
}

fn bind(bind: &Bind) -> Result<Listener, Message> {
    Listener::bind(bind, false).map_err(|error| {
        let place = match bind {
            Bind::Tcp(addr) => addr.to_string(),
            Bind::Unix { path, .. } => path.display().to_string(),
        };
        Message::error("PC4001", format!("`{place}` cannot be bound: {error}"))
            .help("is another process using it?")
    })
}

/// Runs the accept loop; each connection gets a task of a group that ends with it.
fn accept(
    listener: Listener,
    name: &'static str,
    tasks: &Tasks,
    drain: &DrainWatch,
    mut on: impl FnMut(Accepted, &Tasks, DrainWatch) + Send + 'static,
) {
    let (watch, connections) = (drain.clone(), Tasks::new(name));
    let draining = drain.clone();
    tasks.spawn(name, async move {
        accept_loop(listener, Caps::default(), watch, |accepted| {
            on(accepted, &connections, draining.clone())
        })
        .await;
        connections.drain(Duration::from_secs(5)).await;
    });
}
