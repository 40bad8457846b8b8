//! `svid verify`: whether an SVID verifies, and why not: that of a file, those of a Workload API, or that of whoever
//! answers over TLS. The rules are those of the gateway; only the deny set is not asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Clock, SystemClock, UnixTime};
use ca_identity::tls::{Expected, Trust, client_config, install_provider, peer, refusal_in};
use ca_identity::{
    Bundle, BundleMap, CertificateDer, IdPattern, IdentitySnapshot, Refusal, SpiffeId, TrustDomain, Usage,
    VerifiedPeer, inspect, pem, verify_jwt_svid, verify_svid,
};
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::{Global, block_on};
use super::{Socket, certificates, first, obtain, tokens};
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A file with a certificate chain or a JWT-SVID, https://HOST:PORT of a TLS server, or unix:///PATH of a Workload API
    #[arg(value_name = "FILE_OR_URL")]
    what: String,
    #[command(flatten)]
    socket: Socket,
    /// What to verify with: roots in PEM, or a SPIFFE bundle [default: the bundles of the Workload API]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Whose bundle that is [default: the trust domain that the SVID names]
    #[arg(long, value_name = "NAME", requires = "bundle", value_parser = TrustDomain::parse)]
    trust_domain: Option<TrustDomain>,
    /// Whom a JWT-SVID was sent to
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// Nobody but this identity is right
    #[arg(long, value_name = "SPIFFE_ID", value_parser = SpiffeId::parse)]
    id: Option<SpiffeId>,
}

pub(super) fn run(options: &Options, global: &Global) -> Result<Answer, Fault> {
    if let Some(server) = options.what.strip_prefix("https://") {
        return server_svid(options, server.trim_end_matches('/'), global);
    }
    if options.what.starts_with("unix://") {
        return workload_api(options, global);
    }
    let bytes = match options.what.as_str() {
        "-" => tokens::read(Path::new("-"))?.into_bytes(),
        file => fs::read(file).map_err(|error| unreadable(file, &error))?,
    };
    let chain = certificates(&bytes);
    if chain.is_empty() {
        return token(options, &bytes, global);
    }
    let trust = snapshot(options, global, || {
        let leaf = chain.first().and_then(|leaf| inspect::certificate(leaf).ok());
        leaf.and_then(|facts| facts.id).map(|id| id.trust_domain().clone())
    })?;
    let judged = judge(&chain, &trust, options.id.as_ref());
    judged
        .map(|peer| Answer::object("VerifiedSvid", shown(&peer), told(&peer.id, peer.expires)))
        .map_err(|why| refused(options, &why))
}

/// Good for both sides of TLS, as an SVID has to be, and who is expected.
fn judge(
    chain: &[CertificateDer<'_>],
    trust: &IdentitySnapshot,
    expected: Option<&SpiffeId>,
) -> Result<VerifiedPeer, Refusal> {
    let now = SystemClock.now().wall;
    verify_svid(chain, trust, Usage::Client, now)?;
    let peer = verify_svid(chain, trust, Usage::Server, now)?;
    match expected {
        Some(expected) if *expected != peer.id => Err(Refusal::UnexpectedId { seen: peer.id }),
        _ => Ok(peer),
    }
}

/// Every identity that the Workload API gives this process.
fn workload_api(options: &Options, global: &Global) -> Result<Answer, Fault> {
    let context = block_on(obtain(&options.socket.at(&options.what), global))?;
    let trust = match &options.bundle {
        Some(_) => snapshot(options, global, || first(&context).map(|svid| svid.id.trust_domain().clone()))?,
        None => IdentitySnapshot { bundles: context.bundles.clone(), ..IdentitySnapshot::default() },
    };
    let wanted = context.svids.iter().filter(|svid| options.id.as_ref().is_none_or(|id| svid.id == *id));
    let judged = wanted.map(|svid| judge(&svid.chain, &trust, None)).collect::<Result<Vec<_>, _>>();
    let items: Vec<Value> = judged.map_err(|why| refused(options, &why))?.iter().map(shown).collect();
    if items.is_empty() {
        let text = format!("`{}` gives this process no SVID of that identity", options.what);
        return Err(Fault::new(Exit::Invalid, Message::error("PC1006", text)));
    }
    Ok(Answer::list("VerifiedSvid", items, &[("SPIFFE ID", "/spiffe_id"), ("EXPIRES", "/expires")]))
}

/// Whoever answers there, as a client of the mesh sees it; the own SVID is shown where there is one.
fn server_svid(options: &Options, server: &str, global: &Global) -> Result<Answer, Fault> {
    let mut trust = snapshot(options, global, || None)?;
    if options.bundle.is_none() {
        trust.own = first(&block_on(obtain(&options.socket, global))?).cloned().map(Arc::new);
    }
    let domain = |bundle: &Arc<Bundle>| IdPattern::Domain(bundle.trust_domain.clone());
    let expected = match &options.id {
        Some(id) => Expected::Ids(vec![id.clone()]),
        None => Expected::Matching(trust.bundles.iter().map(domain).collect()),
    };
    install_provider();
    let shared = Trust::new(Arc::new(SystemClock));
    shared.publish(trust).map_err(|error| invalid("PC1006", error.to_string()))?;
    let silent = |why: String| {
        Fault::new(
            Exit::Unavailable,
            Message::error("PC1006", format!("`{}` cannot be asked: {why}", options.what)),
        )
    };
    let asked = async {
        let stream = TcpStream::connect(server).await.map_err(|error| silent(error.to_string()))?;
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host.trim_matches(['[', ']']));
        let name = ServerName::try_from(host.to_owned()).map_err(|error| silent(error.to_string()))?;
        let connector = TlsConnector::from(client_config(&shared, expected, &[b"h2", b"http/1.1"]));
        match connector.connect(name, stream).await {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates();
                peer(&shared, shown, Usage::Server)
                    .transpose()
                    .unwrap_or(Err(Refusal::NoCertificate))
                    .map_err(|why| refused(options, &why))
            }
            Err(error) => match refusal_in(&error) {
                Some(why) => Err(refused(options, &why)),
                None => Err(silent(error.to_string())),
            },
        }
    };
    let limited = async { tokio::time::timeout(options.socket.timeout, asked).await };
    let late =
        || silent(format!("no answer within {}", crate::config::print_duration(options.socket.timeout)));
    let peer = block_on(limited).unwrap_or_else(|_elapsed| Err(late()))?;
    Ok(Answer::object("VerifiedSvid", shown(&peer), told(&peer.id, peer.expires)))
}

fn token(options: &Options, bytes: &[u8], global: &Global) -> Result<Answer, Fault> {
    let text = std::str::from_utf8(bytes).map(str::trim).unwrap_or_default();
    let facts = inspect::token(text).map_err(|error| {
        invalid("PC1006", format!("`{}` holds no certificate, and no JWT-SVID: {error}", options.what))
    })?;
    let Some(audience) = &options.audience else {
        let message = Message::error("PC0104", "a JWT-SVID is good for somebody; --audience says for whom");
        return Err(Fault::new(Exit::Usage, message));
    };
    if options.bundle.is_none() {
        // The Workload API hands out no keys to judge by, but judges itself, with the deny set.
        return tokens::judged(&options.socket, audience, text, global);
    }
    let trust = snapshot(options, global, || Some(facts.id.trust_domain().clone()))?;
    let verified = verify_jwt_svid(text, audience, &trust, SystemClock.now().wall)
        .map_err(|why| unverified(options, &why, why.code()))?;
    if options.id.as_ref().is_some_and(|id| *id != verified.id) {
        return Err(refused(options, &Refusal::UnexpectedId { seen: verified.id }));
    }
    let body = json!({ "spiffe_id": verified.id.as_str(), "expires": verified.expires.to_string(), "audience": verified.audience, "key_id": verified.key });
    Ok(Answer::object("VerifiedSvid", body, told(&verified.id, verified.expires)))
}

/// What to verify with. `named` is the domain that the SVID names, where that is known before.
fn snapshot(
    options: &Options,
    global: &Global,
    named: impl FnOnce() -> Option<TrustDomain>,
) -> Result<IdentitySnapshot, Fault> {
    let Some(file) = &options.bundle else {
        let bundles = block_on(obtain(&options.socket, global))?.bundles;
        return Ok(IdentitySnapshot { bundles, ..IdentitySnapshot::default() });
    };
    let path = file.display().to_string();
    let bytes = fs::read(file).map_err(|error| unreadable(&path, &error))?;
    let Some(domain) = options.trust_domain.clone().or_else(named) else {
        let text = format!("whose bundle is in `{path}`? --trust-domain says it");
        return Err(Fault::new(Exit::Usage, Message::error("PC0104", text)));
    };
    let wrong = |error: &dyn std::fmt::Display| invalid("PC1002", format!("`{path}` is no bundle: {error}"));
    let bundle = if bytes.trim_ascii_start().starts_with(b"{") {
        Bundle::from_jwks(domain, &bytes).map_err(|error| wrong(&error))?
    } else {
        let roots = pem::read_certificates(&bytes).map_err(|error| wrong(&error))?;
        Bundle::new(domain, roots, 0).map_err(|error| wrong(&error))?
    };
    Ok(IdentitySnapshot { bundles: BundleMap::of(Arc::new(bundle)), ..IdentitySnapshot::default() })
}

fn shown(peer: &VerifiedPeer) -> Value {
    json!({
        "spiffe_id": peer.id.as_str(),
        "expires": peer.expires.to_string(),
        "serial": peer.serial.to_string(),
        "issuer_key_id": peer.issuer_key_id.to_string(),
        "root_key_id": peer.anchor_key_id.to_string(),
    })
}

fn told(id: &SpiffeId, expires: UnixTime) -> String {
    format!("verified: {id} until {expires}")
}

fn refused(options: &Options, why: &Refusal) -> Fault {
    unverified(options, why, why.code())
}

fn unverified(options: &Options, why: &dyn std::fmt::Display, code: &str) -> Fault {
    invalid("PC1006", format!("`{}` does not verify: {why} [{code}]", options.what))
}

fn unreadable(file: &str, error: &dyn std::fmt::Display) -> Fault {
    invalid("PC1002", format!("`{file}` cannot be read: {error}"))
}

fn invalid(code: &'static str, text: String) -> Fault {
    Fault::new(Exit::Invalid, Message::error(code, text))
}
