//! Answers that a route gives itself (RT-04): a redirect, or a short text. Judged and recorded as any call before.

use enforcer_codec::Call;
use enforcer_codec::headers::Extra;
use enforcer_traffic::{Handling, ReplySpec};
use tokio::io::AsyncWrite;

use crate::body::Outlet;
use crate::fault::Broken;

/// An answer of a route.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    fields: Vec<(String, Vec<u8>)>,
    body: String,
}

impl Reply {
    /// The answer to that call.
    pub(crate) fn of(call: &Call, handling: &Handling, reply: &ReplySpec) -> Self {
        let (status, field, body) = match reply {
            ReplySpec::Direct { status, content_type, body } => {
                (*status, ("content-type", content_type.clone()), body.as_str())
            }
            ReplySpec::Redirect { status, .. } => (*status, ("location", handling.location(call)), ""),
        };
        let own = std::iter::once((field.0.to_owned(), field.1.into_bytes()));
        let declared = handling.response.added().map(|(name, value)| (name.to_owned(), value.to_vec()));
        let body = if call.method() == "HEAD" { "" } else { body };
        Self { status, fields: own.chain(declared).collect(), body: body.to_owned() }
    }

    /// The answer that sends a call there for good (308): its method and body go along.
    pub(crate) fn to(location: String) -> Self {
        Self {
            status: 308,
            fields: vec![("location".to_owned(), location.into_bytes())],
            body: String::new(),
        }
    }

    /// Tells the caller, and `more`. `close` ends the connection.
    pub(crate) async fn tell<W: AsyncWrite + Unpin>(
        &self,
        more: Option<Extra<'_>>,
        close: bool,
        out: &mut Outlet<'_, W>,
    ) -> Result<(), Broken> {
        let own = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let fields: Vec<Extra<'_>> = own.chain(more).collect();
        out.send(self.status, &fields, self.body.as_bytes(), close).await
    }
}
