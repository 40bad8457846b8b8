//! Over an HTTP/2 endpoint; the only way for gRPC, whose status comes in trailers (RPC-03).

use bytes::Bytes;
use enforcer_codec::{Answer, Asked, BodyLength, CallProtocol, grpc};
use h2::SendStream;
use h2::client::ResponseFuture;
use tokio::io::{AsyncRead, AsyncWrite, Empty, Sink};

use super::{Added, Pick, Way, both, unless_gone};
use crate::body::{H2Inlet, H2Outlet, Inlet, Outlet, RelayError, relay};
use crate::fault::{Broken, Fault};

pub(super) async fn carry<R, W>(pick: &Pick, way: Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Way { conn, clocks, body, out, status } = way;
    let added = Added::of(pick);
    let call = pick.call();
    let broke = |source| Fault::Upstream { address: pick.endpoint.address, source };
    let mut repeated = false;
    loop {
        let mut stream = pick.endpoint.lend_h2(&conn.worker, clocks.connect_limit()).await?;
        let left = clocks.left()?;
        let request = added.with(conn, |extra| call.to_h2_request(left, extra)).map_err(Fault::Untold)?;
        let (response, up) = match stream.sender.send_request(request, body.is_over()) {
            Ok(sent) => sent,
            Err(error) => {
                let broken = Broken::H2(error);
                stream.give_up(&broken);
                if repeated || !stream.is_used {
                    return Err(broke(broken));
                }
                repeated = true;
                continue;
            }
        };
        let way = Way { conn, clocks, body: &mut *body, out: &mut *out, status: &mut *status };
        let carried = converse(pick, way, &added, response, up).await;
        match carried {
            Err(Fault::Upstream { source, address }) => {
                stream.give_up(&source);
                let harmless =
                    source.is_unprocessed() || (stream.is_used && pick.is_idempotent() && source.is_lost());
                let again = !repeated && harmless && body.is_untouched() && !out.is_begun();
                if !again {
                    return Err(Fault::Upstream { source, address });
                }
                repeated = true;
            }
            other => {
                stream.serves();
                return other;
            }
        }
    }
}

/// The body up, the answer down, on a stream whose request was sent.
async fn converse<R, W>(
    pick: &Pick,
    way: Way<'_, '_, R, W>,
    added: &Added,
    response: ResponseFuture,
    up: SendStream<Bytes>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Way { conn, clocks, body, out, status } = way;
    let broke = |source| Fault::Upstream { address: pick.endpoint.address, source };
    let down = async {
        let waiting = async { response.await.map_err(|error| broke(Broken::H2(error))) };
        let (parts, stream) = unless_gone(out, waiting).await?.into_parts();
        let call = pick.call();
        let is_grpc = call.protocol() == CallProtocol::Grpc;
        if is_grpc && !speaks_grpc(&parts) {
            return Err(Fault::NotGrpc { status: parts.status.as_u16() });
        }
        let mut inlet = Inlet::<Empty>::H2(H2Inlet::new(stream));
        let over = inlet.is_over();
        let asked = Asked::by(call.http_method());
        let answer = Answer::from_h2(parts, over, asked).map_err(|flaw| broke(Broken::Gate(flaw)))?;
        *status = answer.status();
        // The deadline that a gRPC caller named holds for its streams too.
        clocks.answered(answer.body() == BodyLength::Streamed && !is_grpc);
        added.for_caller(conn, |extra| out.begin(&answer, over, extra)).map_err(Fault::Caller)?;
        if over || answer.body() == BodyLength::None {
            return out.flush().await.map_err(Fault::Caller);
        }
        relay(&mut inlet, out, clocks).await.map_err(|error| match error {
            RelayError::From(broken) => broke(broken),
            RelayError::To(broken) => Fault::Caller(broken),
        })
    };
    if body.is_over() {
        return down.await;
    }
    let mut upstream = Outlet::<Sink>::H2(H2Outlet::request(up));
    let up = async {
        relay(body, &mut upstream, clocks).await?;
        clocks.sent();
        Ok::<(), RelayError>(())
    };
    both(up, down).await.map(drop)
}

fn speaks_grpc(head: &http::response::Parts) -> bool {
    let kind = head.headers.get(http::header::CONTENT_TYPE);
    head.status == 200 && kind.is_some_and(|kind| grpc::is_grpc(kind.as_bytes()))
}
