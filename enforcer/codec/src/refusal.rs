//! Why bytes were refused: the rule, the status of the answer, and whether the connection can live on.
//!
//! Made by every parser of this crate, answered by the proxy. It never carries text of the peer.

/// A request, an answer or a body that is not what the strict gate accepts.
///
/// On HTTP/2 `close` is false and the stream alone ends. For upstream answers `status` is 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct NotCanonical {
    /// The id of the broken rule, such as `CC-03`, `H1-12`, `HR-01` or `HX-03`.
    pub rule: &'static str,
    /// The HTTP status of the refusal.
    pub status: u16,
    /// True when no further byte of this connection may be parsed.
    pub close: bool,
    /// What was wrong, in fixed words.
    pub detail: &'static str,
}

impl NotCanonical {
    /// 400, and the connection closes: the usual refusal on HTTP/1.
    pub(crate) const fn bad(rule: &'static str, detail: &'static str) -> Self {
        Self::closing(rule, 400, detail)
    }

    /// Another status, and the connection closes.
    pub(crate) const fn closing(rule: &'static str, status: u16, detail: &'static str) -> Self {
        Self { rule, status, close: true, detail }
    }

    /// A refusal after which the extent of the message is still known.
    pub(crate) const fn keeping(rule: &'static str, status: u16, detail: &'static str) -> Self {
        Self { rule, status, close: false, detail }
    }

    /// The same flaw, found in what an upstream sent.
    pub(crate) const fn upstream(self, rule: &'static str) -> Self {
        Self { rule, status: 502, close: true, detail: self.detail }
    }

    /// The same flaw on a multiplexed connection, which survives it.
    pub(crate) const fn on_stream(self) -> Self {
        Self { close: false, ..self }
    }
}
