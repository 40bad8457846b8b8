//! Name servers: those of this machine, or one that the configuration names. Both kinds of addresses are asked for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base_ports::{Addresses, Resolver, Resolving};
use futures_util::future::join;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

/// One question to one server.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks over UDP, and over TCP what does not fit.
#[derive(Clone)]
pub struct Dns {
    /// Why there is none, where there is none: a name is not resolved then, and that is told like any other trouble.
    resolver: Result<TokioResolver, String>,
}

impl Dns {
    /// The servers and the search list of `/etc/resolv.conf`, after `/etc/hosts`.
    #[must_use]
    pub fn of_system() -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            (options.cache_size, options.timeout) = (0, TIMEOUT);
            builder.build()
        });
        Self { resolver: built.map_err(|error| format!("/etc/resolv.conf: {error}")) }
    }

    /// One server.
    #[must_use]
    pub fn at(server: SocketAddr) -> Self {
        let over = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = vec![over(ConnectionConfig::udp()), over(ConnectionConfig::tcp())];
        let servers = vec![NameServerConfig::new(server.ip(), true, connections)];
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        (options.cache_size, options.timeout) = (0, TIMEOUT);
        Self { resolver: builder.build().map_err(|error| error.to_string()) }
    }
}

impl Resolver for Dns {
    fn resolve(&self, host: &str) -> Resolving {
        let (resolver, host) = (self.resolver.clone(), host.to_owned());
        Box::pin(async move {
            let resolver = resolver.map_err(io::Error::other)?;
            let (v4, v6) =
                join(of_kind(&resolver, &host, RecordType::A), of_kind(&resolver, &host, RecordType::AAAA))
                    .await;
            match (v4, v6) {
                (Ok(v4), Ok(v6)) => Ok(both(v4, v6)),
                // Some servers know nothing of one kind and do not say so.
                (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.addresses.is_empty() => Ok(one),
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        })
    }
}

async fn of_kind(resolver: &TokioResolver, host: &str, kind: RecordType) -> io::Result<Addresses> {
    match resolver.lookup(host, kind).await {
        Ok(found) => {
            let times = found.answers().iter().map(|record| record.ttl);
            Ok(Addresses {
                ttl: Duration::from_secs(times.min().unwrap_or_default().into()),
                addresses: found.answers().iter().filter_map(|record| record.data.ip_addr()).collect(),
            })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            let ttl = none.negative_ttl.unwrap_or_default();
            Ok(Addresses { addresses: Vec::new(), ttl: Duration::from_secs(ttl.into()) })
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// What one kind lacks says nothing about how long the other holds.
fn both(v4: Addresses, v6: Addresses) -> Addresses {
    match (v4.addresses.is_empty(), v6.addresses.is_empty()) {
        (false, true) => v4,
        (true, false) => v6,
        _ => {
            let ttl = v4.ttl.min(v6.ttl);
            Addresses { addresses: [v4.addresses, v6.addresses].concat(), ttl }
        }
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("trouble", &self.resolver.as_ref().err()).finish_non_exhaustive()
    }
}
