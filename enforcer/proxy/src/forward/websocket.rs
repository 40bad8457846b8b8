//! A WebSocket over an HTTP/1 endpoint (WS-01, WS-02), whether its caller speaks HTTP/1 or HTTP/2 (RFC 8441): its handshake is judged like any call, and once the endpoint switched,
//! bytes go both ways until one side ends. Nothing that the caller sent behind its head leaves before that.

use std::pin::pin;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use enforcer_codec::h1::ResponseHead;
use enforcer_codec::{Answer, CallProtocol, NotCanonical};
use enforcer_traffic::Trigger;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Told, unless_gone};
use crate::body::{Inlet, Outlet, relay};
use crate::fault::{Broken, Fault};

/// RFC 6455 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Told<'_> {
    /// A key of our own (RFC 6455 4.1).
    fn new_key(&self) -> String {
        let rng = &self.conn().worker.rng;
        let bytes = u128::from(rng.u64()) << 64 | u128::from(rng.u64());
        STANDARD.encode(bytes.to_be_bytes())
    }

    /// Asks for the switch and carries what follows. Any other answer is one like all others, but ends the connection:
    /// what the caller sent behind its head was meant for another protocol.
    pub(super) async fn switch<R, W>(
        &self,
        body: &mut Inlet<'_, R>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let call = self.pick.call();
        // A key is a matter of each hop over HTTP/1; a caller over HTTP/2 has none.
        let own_key = (call.protocol() != CallProtocol::H1).then(|| self.new_key());
        let mut request = BytesMut::with_capacity(1024);
        self.with_identity(|extra| {
            let key = own_key.as_ref().map(|key| ("sec-websocket-key", key.as_bytes()));
            let extra: Vec<_> = extra.iter().copied().chain(key).collect();
            call.write_h1(&mut request, &extra);
        });
        let (mut link, head) = {
            let asking = pin!(self.ask(&request));
            unless_gone(out, asking).await?
        };
        if head.status() != 101 {
            if own_key.is_some() && (200..300).contains(&head.status()) {
                return Err(self.broke(Broken::Gate(NO_SWITCH)));
            }
            let (mut read, _, buffer, _) = link.split();
            let mut inlet = self.begin(head, &mut read, buffer, out, status)?;
            return relay(&mut inlet, out, self.clocks()).await.map_err(|error| self.ended(error));
        }
        self.begin_switch(head, own_key.as_deref(), out, status)?;
        self.pick.splice(&mut link, body, out).await
    }

    fn begin_switch<W: AsyncWrite + Unpin>(
        &self,
        head: ResponseHead,
        own_key: Option<&str>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<(), Fault> {
        const ACCEPT: NotCanonical = NotCanonical {
            rule: "HR-03",
            status: 502,
            close: true,
            detail: "sec-websocket-accept does not fit",
        };
        let answer = Answer::from_h1(head);
        let key = match own_key {
            Some(key) => key.as_bytes(),
            None => self.pick.call().header("sec-websocket-key").next().unwrap_or_default(),
        };
        let mut accepts = answer.header("sec-websocket-accept");
        if (accepts.next(), accepts.next()) != (Some(accept_of(key).as_bytes()), None) {
            return Err(self.broke(Broken::Gate(ACCEPT)));
        }
        drop(accepts);
        self.judge(&answer, Trigger::Status(101))?;
        *status = if own_key.is_some() { 200 } else { answer.status() };
        self.clocks().answered(true);
        self.with_decision(|extra| out.begin(&answer, false, extra)).map_err(Fault::Caller)
    }
}

/// Over HTTP/2 any success would open the stream (RFC 8441 5).
const NO_SWITCH: NotCanonical = NotCanonical {
    rule: "HR-03",
    status: 502,
    close: false,
    detail: "a success that is no switch of protocols",
};

/// What accepts that key (RFC 6455 4.2.2).
pub(crate) fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ws_01_the_example_of_rfc_6455_is_accepted() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
