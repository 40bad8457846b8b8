//! Tunnels by CONNECT (CN-01): the target stands in the allow-list of the route, its addresses are no place that names
//! must not lead to (OUT5), and the caller hears 200 only when the target was reached. Bytes that came behind the head
//! wait until then (WS-01).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use base_ports::{NetAddr, Stream};
use bytes::BytesMut;
use enforcer_codec::Call;
use enforcer_traffic::{Route, off_limits};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{DECISION_HEADER, DecisionText, Way};
use crate::Reveal;
use crate::authorize::Permitted;
use crate::fault::{Broken, Fault};
use crate::tunnel::{End, tunnel};
use crate::worker::Worker;

/// Finding and reaching a target takes no longer.
const LIMIT: Duration = Duration::from_secs(3);
/// So many of its addresses are tried.
const TRIED: usize = 4;

/// Opens the tunnel and carries bytes until both sides have ended.
pub(super) async fn carry<R, W>(
    permitted: &Permitted<Call>,
    route: &Route,
    way: &mut Way<'_, '_, R, W>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let worker = &way.conn.worker;
    let (host, port) = permitted.call().target().ok_or(Fault::NoEndpoint)?;
    let (mut stream, address) = {
        let timer = worker.wheel.timer();
        timer.set(worker.clock.mono() + LIMIT);
        let reaching = pin!(reach(worker, route, host, port));
        timer.within(reaching).await.unwrap_or(Err(Fault::Deadline))?
    };
    *way.status = 200;
    let decision = DecisionText::of(permitted.decision());
    let told = match worker.reveal {
        Reveal::Always => way.out.connected(&[(DECISION_HEADER, decision.as_bytes())]),
        Reveal::Denied | Reveal::Never => way.out.connected(&[]),
    };
    told.map_err(Fault::Caller)?;
    let mut write = way.out.raw().await.map_err(Fault::Caller)?;
    let (mut read, ahead) = way.body.raw().ok_or(Fault::Caller(Broken::Ended))?;
    let (mut from, mut to) = stream.split();
    let target = End { read: &mut from, write: &mut to, ahead: BytesMut::new() };
    let carried = tunnel(worker, way.clocks, End { read: &mut read, write: &mut write, ahead }, target).await;
    carried.map_err(|broke| broke.at(&address))
}

/// A connection to the first address of the target that takes one.
async fn reach(worker: &Worker, route: &Route, host: &str, port: u16) -> Result<(Stream, NetAddr), Fault> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let none = |source| Fault::NoAddress { host: host.to_owned(), source };
    // An address that the configuration writes out is its own grant; what a name leads to is not.
    let (found, is_granted) = match bare.parse::<IpAddr>() {
        Ok(address) => {
            let granted = route.connect.iter().any(|target| target.grants(address));
            (vec![SocketAddr::new(address, port)], granted)
        }
        Err(_name) => {
            let found = worker.names.look_up(bare).await.map_err(none)?;
            (found.into_iter().map(|address| SocketAddr::new(address, port)).collect(), false)
        }
    };
    let mut last = none(io::ErrorKind::NotFound.into());
    for address in found.into_iter().take(TRIED) {
        if !is_granted && off_limits(address.ip(), &[]).is_some() {
            last = Fault::Barred { host: host.to_owned(), address: address.ip() };
            continue;
        }
        let address = NetAddr::from(address);
        match worker.net.dial(&address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(source) => last = Fault::Connect { address, source },
        }
    }
    Err(last)
}
