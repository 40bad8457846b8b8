//! A connection that carries no HTTP: it is one call, judged before an endpoint is dialled (TP-02). A denial, and
//! whatever else goes wrong, closes it without a byte (PA-08).

use std::pin::pin;

use bytes::BytesMut;
use enforcer_codec::h1::{BodyDecoder, Framing, Version};
use enforcer_codec::{Call, CallProtocol, Downstream};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::wire::Wire;
use super::{Connection, Exchange, LINGER};
use crate::body::{H1Inlet, H1Outlet, Half, Inlet, Outlet};
use crate::respond::Asker;

/// Serves the connection to its end.
pub(super) async fn run(conn: &Connection, mut tls: Box<Wire>) {
    let timer = conn.worker.wheel.timer();
    {
        let both = Mutex::new(&mut *tls);
        let (mut ahead, mut gathered) = (BytesMut::new(), BytesMut::new());
        let decoder = BodyDecoder::response(Framing::UntilClose, conn.listening.transport.limits);
        let down = Downstream { version: Version::Http11, keep_alive: false };
        let mut exchange = Exchange {
            conn,
            asker: Asker::unknown(CallProtocol::Tcp),
            body: Inlet::H1(H1Inlet::new(Half(&both), &mut ahead, decoder, false)),
            out: Outlet::H1(H1Outlet::answer(Half(&both), &mut gathered, down, false)),
            now: conn.worker.clock.now(),
        };
        exchange.serve(Ok(Call::tcp()), &timer).await;
    }
    // Ends what is still open; a peer that takes no end gets none.
    timer.set(conn.worker.clock.mono() + LINGER);
    let closing = pin!(tls.shutdown());
    timer.within(closing).await;
}
