//! The sockets of our own APIs: each accepts through `base_net`, says who is calling, and serves with timers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use base_net::{
    Accepted, Bind, Caps, DrainWatch, Listener, Peer, Sockets, Stream, Timers, accept_loop, deadline,
};
use base_ports::{Clock, Tasks};
use ca_authority::service::{self, Caller};
use ca_authority::{AgentSvid, Authority};
use ca_identity::Usage;
use ca_identity::tls::{ClientAuth, Trust, peer, public_config, server_config, server_config_by_name};
use enforcer_proxy::credential_of;
use policies_engine::Credential;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::activation::{ADMIN, BUNDLE_SPIFFE, BUNDLE_WEB, CA, OIDC, WORKLOAD};
use super::certificate;
use crate::admin::{self, Api};
use crate::config::{Admin, Agent, BundleEndpoints, Oidc};
use crate::messages::Message;
use crate::serve;

/// Local sockets are not aged: their peer is the process that connected.
const LOCAL_AGE: Duration = Duration::from_secs(7 * 86_400);
/// Strangers ask once and go.
const PUBLIC_AGE: Duration = Duration::from_secs(60);

/// Where our own APIs are served, and until when.
pub(super) struct Apis {
    pub(super) sockets: Arc<Sockets>,
    pub(super) tasks: Tasks,
    pub(super) drain: DrainWatch,
}

impl Apis {
    /// The SPIFFE Workload API.
    pub(super) fn workload(&self, settings: &Agent, agent: Arc<ca_agent::Agent>) -> Result<(), Message> {
        let listener =
            self.bind(WORKLOAD, &Bind::Unix { path: settings.socket.clone(), mode: settings.socket_mode })?;
        let router = ca_agent::workload_api(agent, settings.served.clone()).into_axum_router();
        self.accept(listener, "workload api", move |accepted, tasks, drain| {
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
    pub(super) fn local(&self, settings: &Admin, api: &Arc<Api>) -> Result<(), Message> {
        let listener =
            self.bind(ADMIN, &Bind::Unix { path: settings.socket.clone(), mode: settings.socket_mode })?;
        let router = admin::router(api);
        let local = Arc::new(Credential::local());
        self.accept(listener, "local api", move |accepted, tasks, drain| {
            let Peer::Unix { uid, .. } = accepted.peer else { return };
            let (router, credential) = (router.clone(), Arc::clone(&local));
            tasks.spawn("local api connection", async move {
                let _permit = accepted.permit;
                serve::http(accepted.stream, router, LOCAL_AGE, drain, move |request| {
                    request.extensions_mut().insert(Caller::Local { uid });
                    request.extensions_mut().insert(Arc::clone(&credential));
                })
                .await;
            });
        });
        Ok(())
    }

    /// Health, metrics and docs on loopback.
    pub(super) fn public(&self, addr: SocketAddr, api: &Arc<Api>) -> Result<SocketAddr, Message> {
        let listener = self.bind(ADMIN, &Bind::Tcp(addr))?;
        let bound = listener.local_addr().unwrap_or(addr);
        let router = admin::public(api);
        self.accept(listener, "public api", move |accepted, tasks, drain| {
            let router = router.clone();
            tasks.spawn("public api connection", async move {
                let _permit = accepted.permit;
                serve::http(accepted.stream, router, Timers::default().max_age, drain, |_| {}).await;
            });
        });
        Ok(bound)
    }

    /// Enrolment and the API for SVIDs, over TLS; a certificate is optional, an anonymous caller may only enrol.
    pub(super) fn remote(
        &self,
        addr: SocketAddr,
        trust: &Arc<Trust>,
        api: &Arc<Api>,
    ) -> Result<SocketAddr, Message> {
        let listener = self.bind(CA, &Bind::Tcp(addr))?;
        let bound = listener.local_addr().unwrap_or(addr);
        let acceptor = TlsAcceptor::from(server_config(trust, ClientAuth::Optional, &[b"h2", b"http/1.1"]));
        let (router, trust, clock): (Router, _, _) =
            (admin::remote(api), Arc::clone(trust), Arc::clone(&api.clock));
        self.accept(listener, "ca api", move |accepted, tasks, drain| {
            let (acceptor, router, trust, clock) =
                (acceptor.clone(), router.clone(), Arc::clone(&trust), Arc::clone(&clock));
            tasks.spawn("ca api connection", async move {
                let _permit = accepted.permit;
                let Some(stream) = secured(&acceptor, accepted.stream).await else { return };
                let Ok(verified) = peer(&trust, stream.get_ref().1.peer_certificates(), Usage::Client) else {
                    return;
                };
                let age = match &verified {
                    Some(verified) => {
                        verified.expires.saturating_since(clock.now().wall).min(Timers::default().max_age)
                    }
                    None => Duration::from_secs(60),
                };
                let credential = verified.as_ref().map(|verified| Arc::new(credential_of(verified)));
                let shown = verified.as_ref().map(|verified| AgentSvid {
                    serial: verified.serial.clone(),
                    not_after: verified.expires,
                });
                let caller = verified.map_or(Caller::Anonymous, |verified| Caller::Svid(verified.id));
                serve::http(stream, router, age, drain, move |request| {
                    request.extensions_mut().insert(caller.clone());
                    if let Some(shown) = &shown {
                        request.extensions_mut().insert(shown.clone());
                    }
                    credential.iter().for_each(|credential| {
                        request.extensions_mut().insert(Arc::clone(credential));
                    });
                })
                .await;
            });
        });
        Ok(bound)
    }

    /// OpenID Connect discovery, for anybody: with a certificate of its name, or plain behind a proxy.
    pub(super) fn oidc(
        &self,
        settings: &Oidc,
        authority: &Arc<Authority>,
        trust: &Arc<Trust>,
    ) -> Result<(), Message> {
        let listener = self.bind(OIDC, &settings.bind)?;
        let router = service::oidc(Arc::clone(authority), settings.published.clone());
        let acceptor = match &settings.certificate {
            None => None,
            Some((chain, key)) => {
                let named = [certificate::read(OIDC, chain, key)?];
                let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
                let config = server_config_by_name(trust, ClientAuth::None, alpn, &named);
                Some(TlsAcceptor::from(config))
            }
        };
        self.accept(listener, "oidc", move |accepted, tasks, drain| {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tasks.spawn("oidc connection", async move {
                let _permit = accepted.permit;
                let (stream, age) = (accepted.stream, Timers::default().max_age);
                let Some(acceptor) = acceptor else {
                    return serve::http(stream, router, age, drain, |_| {}).await;
                };
                if let Some(stream) = secured(&acceptor, stream).await {
                    serve::http(stream, router, age, drain, |_| {}).await;
                }
            });
        });
        Ok(())
    }

    /// The own bundle for other trust domains, one listener a profile (FB-01).
    pub(super) fn bundle(
        &self,
        settings: &BundleEndpoints,
        authority: &Arc<Authority>,
        (trust, clock): (&Arc<Trust>, &Arc<dyn Clock>),
    ) -> Result<(), Message> {
        let router = || service::bundle(Arc::clone(authority), settings.hint, Arc::clone(clock));
        let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
        if let Some(addr) = settings.spiffe {
            self.published(BUNDLE_SPIFFE, addr, public_config(trust, None, alpn), router())?;
        }
        if let Some((addr, (chain, key))) = &settings.web {
            let shown = certificate::read(BUNDLE_WEB, chain, key)?;
            self.published(BUNDLE_WEB, *addr, public_config(trust, Some(&shown), alpn), router())?;
        }
        Ok(())
    }

    /// What everybody may read, over TLS without client certificates; the router is told where a request comes from.
    fn published(
        &self,
        name: &'static str,
        addr: SocketAddr,
        config: Arc<ServerConfig>,
        router: Router,
    ) -> Result<(), Message> {
        let (listener, acceptor) = (self.bind(name, &Bind::Tcp(addr))?, TlsAcceptor::from(config));
        self.accept(listener, name, move |accepted, tasks, drain| {
            let Peer::Tcp(from) = accepted.peer else { return };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tasks.spawn("bundle connection", async move {
                let _permit = accepted.permit;
                if let Some(stream) = secured(&acceptor, accepted.stream).await {
                    serve::http(stream, router, PUBLIC_AGE, drain, move |request| {
                        request.extensions_mut().insert(service::Source(from.ip()));
                    })
                    .await;
                }
            });
        });
        Ok(())
    }

    fn bind(&self, name: &str, bind: &Bind) -> Result<Listener, Message> {
        self.sockets.listen(name, bind).map_err(|error| {
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
        &self,
        listener: Listener,
        name: &'static str,
        mut on: impl FnMut(Accepted, &Tasks, DrainWatch) + Send + 'static,
    ) {
        let (watch, connections) = (self.drain.clone(), Tasks::new(name));
        let draining = self.drain.clone();
        self.tasks.spawn(name, async move {
            accept_loop(listener, Caps::default(), watch, |accepted| {
                on(accepted, &connections, draining.clone())
            })
            .await;
            connections.drain(Duration::from_secs(5)).await;
        });
    }
}

/// The connection once TLS is on it, unless the handshake fails or takes too long.
async fn secured(acceptor: &TlsAcceptor, stream: Stream) -> Option<TlsStream<Stream>> {
    let handshake = acceptor.accept(stream);
    deadline::within(Timers::default().handshake, "handshake", handshake).await.ok()?.ok()
}
