//! Over an HTTP/3 endpoint; over HTTP/2 when that is not reached and need not be (LT-06).

use std::pin::pin;

use enforcer_codec::{Answer, Call, Scheme};
use http::header::CONTENT_LENGTH;
use tokio::io::{AsyncRead, AsyncWrite, Empty, Sink};

use super::{Pick, TOO_MANY_INTERIM, Told, Way, both, http2, unless_gone};
use crate::body::{H3Inlet, H3Request, Inlet, Outlet, RelayError, relay};
use crate::fault::{Broken, Fault};
use crate::pool::{H3Asked, Unasked};

pub(super) async fn carry<R, W>(pick: &Pick<'_>, way: &mut Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let told = Told::of(pick);
    let mut repeated = false;
    loop {
        pick.connecting();
        let Some(place) = pick.endpoint.lend_h3(&way.conn.worker, pick.terms()).await? else {
            return http2::carry(pick, way).await;
        };
        pick.connected(place.identity());
        let Way { clocks, body, out, status, .. } = way;
        let left = clocks.left(clocks.now())?;
        let mut request =
            told.with_identity(|extra| pick.call().to_h3_request(left, extra)).map_err(Fault::Untold)?;
        if pick.call().scheme() == Scheme::Http {
            request = Call::under_tls(request).map_err(Fault::Untold)?;
        }
        let (carried, is_told) = match place.ask(request).await {
            Ok(asked) => (told.converse_h3(asked, body, out, status).await, true),
            Err(Unasked::Broke(error)) => (Err(told.broke(error.into())), true),
            Err(Unasked::Closed) => (Err(told.broke(Broken::Ended)), false),
        };
        let Err(Fault::Upstream { source, address }) = carried else {
            place.serves();
            return carried;
        };
        place.give_up();
        if let Some(alert) = place.rejected() {
            return Err(Fault::TlsRejected { address, alert });
        }
        let harmless = !is_told || told.is_harmless(&source, place.is_used);
        if repeated || !harmless || !body.is_untouched() || out.is_begun() {
            return Err(Fault::Upstream { source, address });
        }
        repeated = true;
    }
}

impl Told<'_> {
    /// The body up, the answer down, on a stream whose request was sent.
    async fn converse_h3<R, W>(
        &self,
        (stream, watch): H3Asked,
        body: &mut Inlet<'_, R>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (send, mut receive) = stream.split();
        let (held, stopped) = watch.parted();
        let mut up = H3Request::new(send, stopped);
        if body.is_over() {
            up.finish(None).await.map_err(|broken| self.broke(broken))?;
        }
        let down = pin!(async {
            let parts = {
                let waiting = pin!(async {
                    loop {
                        let head = receive.recv_response().await.map_err(|error| self.broke(error.into()))?;
                        // Interim answers are dropped.
                        if !head.status().is_informational() {
                            return Ok(head.into_parts().0);
                        }
                        held.given();
                        if !self.clocks().takes_interim() {
                            return Err(self.broke(TOO_MANY_INTERIM.into()));
                        }
                    }
                });
                unless_gone(out, waiting).await?
            };
            let declared =
                parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            let mut inlet = H3Inlet::of_endpoint(receive, held, declared);
            let over = inlet.is_empty().map_err(|broken| self.broke(broken))?;
            let answer = Answer::from_h3(parts, over, self.asked());
            if !self.begin_framed(answer, over, || inlet.peek_status(), out, status)? {
                return Ok(());
            }
            let mut inlet = Inlet::<Empty>::H3(Box::new(inlet));
            relay(&mut inlet, out, self.clocks()).await.map_err(|error| self.ended(error))
        });
        if body.is_over() {
            return down.await;
        }
        let mut upstream = Outlet::<Sink>::Up(Box::new(up));
        let up = pin!(async {
            relay(body, &mut upstream, self.clocks()).await?;
            self.clocks().sent();
            Ok::<(), RelayError>(())
        });
        both(up, down).await.map(drop)
    }
}
