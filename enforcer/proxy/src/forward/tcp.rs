//! Over an endpoint that gets the bytes of a connection as they are.

use bytes::BytesMut;
use enforcer_codec::proxy_protocol::{tlv, write_v2};
use enforcer_traffic::Trigger;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tries::Wish;
use super::{DecisionText, Pick, Way};
use crate::body::{Inlet, Outlet};
use crate::fault::{Broken, Fault};
use crate::pool::H1Link;
use crate::tunnel::{End, tunnel};

/// What a connection that was carried counts as.
const CARRIED: u16 = 200;

/// Dials, then carries bytes both ways until both sides have ended.
pub(super) async fn carry<R, W>(pick: &Pick<'_>, way: &mut Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    pick.connecting();
    let mut link = pick.endpoint.dial_h1(&pick.chance.conn.worker, pick.terms()).await?;
    pick.connected(link.identity());
    if pick.tells_caller() {
        let mut header = BytesMut::new();
        who_calls(pick, &mut header);
        link.write(&header).await.map_err(|source| Fault::Upstream {
            address: pick.endpoint.address.clone(),
            source: source.into(),
        })?;
    }
    pick.answered(Trigger::Status(CARRIED), Wish::None);
    *way.status = CARRIED;
    pick.splice(&mut link, way.body, way.out).await
}

/// What the endpoint hears first (PX-03): addresses, the name that was asked for, the decision, the caller's identity.
fn who_calls(pick: &Pick<'_>, out: &mut BytesMut) {
    let secured = &pick.chance.conn.secured;
    let decision = DecisionText::of(pick.permitted.decision());
    let told = [
        (tlv::AUTHORITY, secured.sni().unwrap_or_default().as_bytes()),
        (tlv::UNIQUE_ID, decision.as_bytes()),
        (tlv::SPIFFE_ID, secured.peer_header.as_bytes()),
    ];
    let told: Vec<_> = told.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    write_v2(out, secured.source(), secured.local, &told);
}

impl Pick<'_> {
    /// Carries bytes between the caller and a connection of the endpoint.
    pub(super) async fn splice<R, W>(
        &self,
        link: &mut H1Link,
        body: &mut Inlet<'_, R>,
        out: &mut Outlet<'_, W>,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (mut read, mut write, buffer, _) = link.split();
        let mut caller_write = out.raw().await.map_err(Fault::Caller)?;
        let (mut caller_read, ahead) = body.raw().ok_or(Fault::Caller(Broken::Ended))?;
        let caller = End { read: &mut caller_read, write: &mut caller_write, ahead };
        let upstream = End { read: &mut read, write: &mut write, ahead: std::mem::take(buffer) };
        let carried = tunnel(&self.chance.conn.worker, self.chance.clocks, caller, upstream).await;
        carried.map_err(|broke| broke.at(&self.endpoint.address))
    }
}
