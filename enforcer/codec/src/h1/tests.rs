//! The strict gate row by row (hardening.md 3), answers of upstreams, smuggling payloads, splits, speed.

mod answers;
mod bodies;
mod rows;
mod smuggling;
mod splits;
mod timing;

use bytes::BytesMut;

use super::*;
use crate::canonical::Kept;
use crate::{Call, Limits, NotCanonical, Scheme, Transport};

/// Parses one request, canonical call included; the rest of the bytes stays.
fn request(bytes: impl AsRef<[u8]>) -> Result<(Call, Wire, BytesMut), NotCanonical> {
    request_on(bytes, &Transport::new(Scheme::Https))
}

fn request_on(
    bytes: impl AsRef<[u8]>,
    transport: &Transport,
) -> Result<(Call, Wire, BytesMut), NotCanonical> {
    let mut buffer = BytesMut::from(bytes.as_ref());
    match parse_request_head(&mut buffer, &Limits::default()) {
        Parse::Done(head) => {
            let wire = head.wire();
            // As a route has it that takes canonical paths alone.
            let call = Call::from_h1(head, transport)?;
            call.misspelled(Kept::default(), false).map_or(Ok((call, wire, buffer)), Err)
        }
        Parse::Refused(flaw) => Err(flaw),
        Parse::Incomplete => panic!("incomplete: {:?}", String::from_utf8_lossy(bytes.as_ref())),
    }
}

/// A GET with these further header lines.
fn get(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

/// The rule and the status of a refusal.
fn refused(bytes: impl AsRef<[u8]>) -> (&'static str, u16) {
    let text = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    match request(bytes) {
        Err(flaw) => (flaw.rule, flaw.status),
        Ok((call, ..)) => panic!("accepted {text:?} as {call:?}"),
    }
}

/// Refused with this rule, 400, and the connection closes.
fn closes(bytes: impl AsRef<[u8]>, rule: &str) {
    let text = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    let flaw = request(bytes).map(|_| ()).expect_err(&text);
    assert_eq!((flaw.rule, flaw.status, flaw.close), (rule, 400, true), "{text:?}: {flaw}");
}

fn names(call: &Call) -> Vec<String> {
    call.headers().map(|(name, _)| name.to_owned()).collect()
}
