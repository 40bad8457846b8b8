//! gRPC statuses of answers that the proxy makes: codes, trailers-only heads, error details (RPC-02).

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, Version};

/// The status codes of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// 0.
    Ok = 0,
    /// 1.
    Cancelled = 1,
    /// 2.
    Unknown = 2,
    /// 3.
    InvalidArgument = 3,
    /// 4.
    DeadlineExceeded = 4,
    /// 5.
    NotFound = 5,
    /// 6.
    AlreadyExists = 6,
    /// 7.
    PermissionDenied = 7,
    /// 8.
    ResourceExhausted = 8,
    /// 9.
    FailedPrecondition = 9,
    /// 10.
    Aborted = 10,
    /// 11.
    OutOfRange = 11,
    /// 12.
    Unimplemented = 12,
    /// 13.
    Internal = 13,
    /// 14.
    Unavailable = 14,
    /// 15.
    DataLoss = 15,
    /// 16.
    Unauthenticated = 16,
}

impl Code {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code for an answer of an upstream that does not speak gRPC (RPC-02).
    pub const fn from_upstream_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The code for a refusal of ours with this HTTP status (PA-08).
    pub const fn from_own_http(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            413 | 414 | 429 | 431 => Self::ResourceExhausted,
            400..=499 if status != 421 => Self::InvalidArgument,
            504 => Self::DeadlineExceeded,
            500 => Self::Internal,
            _ => Self::Unavailable,
        }
    }

    /// The code with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            2 => Self::Unknown,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => return None,
        })
    }
}

/// `google.rpc.ErrorInfo`: the machine-readable cause of a refusal.
#[derive(Debug, Clone, Copy)]
pub struct ErrorInfo<'a> {
    /// The cause, in upper snake case.
    pub reason: &'a str,
    /// Who says so.
    pub domain: &'a str,
    /// Further facts, such as the decision id.
    pub metadata: &'a [(&'a str, &'a str)],
    /// When it is of use to call again: a `google.rpc.RetryInfo` beside it.
    pub retry: Option<Duration>,
}

impl ErrorInfo<'_> {
    /// The bytes of a `google.rpc.Status` that carries these details.
    pub fn to_status_bytes(&self, code: Code, message: &str) -> Vec<u8> {
        let mut info = Vec::new();
        put_bytes(&mut info, 1, self.reason.as_bytes());
        put_bytes(&mut info, 2, self.domain.as_bytes());
        for (key, value) in self.metadata {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, value.as_bytes());
            put_bytes(&mut info, 3, &entry);
        }
        let mut status = Vec::new();
        if code != Code::Ok {
            status.extend([1 << 3, code.number()]);
        }
        put_bytes(&mut status, 2, message.as_bytes());
        put_detail(&mut status, b"type.googleapis.com/google.rpc.ErrorInfo", &info);
        if let Some(retry) = self.retry {
            let (mut delay, mut info) = (Vec::new(), Vec::new());
            put_number(&mut delay, 1, retry.as_secs());
            put_number(&mut delay, 2, retry.subsec_nanos().into());
            put_bytes(&mut info, 1, &delay);
            put_detail(&mut status, b"type.googleapis.com/google.rpc.RetryInfo", &info);
        }
        status
    }
}

/// A whole answer in one head: 200, `grpc-status`, `grpc-message` and, when given, the details.
pub fn trailers_only(code: Code, message: &str, detail: Option<&ErrorInfo<'_>>) -> Response<()> {
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code.number())));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(message)) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    if let Some(detail) = detail
        && let Ok(value) =
            HeaderValue::from_str(&STANDARD_NO_PAD.encode(detail.to_status_bytes(code, message)))
    {
        headers.insert(HeaderName::from_static("grpc-status-details-bin"), value);
    }
    response
}

/// The text of a `grpc-message`: bytes outside visible ASCII and space, and `%`, are encoded.
pub fn percent_encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f..=0xff => {
                // INVARIANT: writing to a String does not fail.
                write!(out, "%{byte:02X}").unwrap_or_default();
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// One of the `details` of a `google.rpc.Status`.
fn put_detail(status: &mut Vec<u8>, kind: &[u8], message: &[u8]) {
    let mut any = Vec::new();
    put_bytes(&mut any, 1, kind);
    put_bytes(&mut any, 2, message);
    put_bytes(status, 3, &any);
}

/// A length-delimited protobuf field.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push((field << 3) | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A protobuf field of an integer that is not negative; 0 is left out.
fn put_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number > 0 {
        out.push(field << 3);
        put_varint(out, number);
    }
}

fn put_varint(out: &mut Vec<u8>, mut left: u64) {
    loop {
        let low = u8::try_from(left & 0x7f).unwrap_or(0);
        left >>= 7;
        if left == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpc_02_statuses_of_plain_http_upstreams_are_mapped() {
        let table = [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (200, 2),
            (500, 2),
            (302, 2),
        ];
        for (http, grpc) in table {
            assert_eq!(Code::from_upstream_http(http).number(), grpc, "{http}");
        }
    }

    #[test]
    fn rpc_02_own_refusals_have_the_code_of_their_cause() {
        let table = [
            (403, 7),
            (401, 16),
            (503, 14),
            (400, 3),
            (421, 14),
            (404, 12),
            (502, 14),
            (429, 8),
            (504, 4),
            (431, 8),
            (415, 3),
        ];
        for (http, grpc) in table {
            assert_eq!(Code::from_own_http(http).number(), grpc, "{http}");
        }
        for number in 0..=16 {
            assert_eq!(Code::from_number(number).unwrap().number(), number);
        }
        assert_eq!(Code::from_number(17), None);
    }

    #[test]
    fn a_message_is_percent_encoded_and_cannot_break_a_line() {
        assert_eq!(percent_encode("no 100% \u{e9}\r\nx: y"), "no 100%25 %C3%A9%0D%0Ax: y");
    }

    /// The bytes were made with `google.rpc` of PyPI `googleapis-common-protos` in mind: fields 1, 2, 3.
    #[test]
    fn error_info_is_a_google_rpc_status() {
        let info = ErrorInfo { reason: "R", domain: "d", metadata: &[("k", "v")], retry: None };
        let bytes = info.to_status_bytes(Code::PermissionDenied, "m");
        let mut expected = vec![0x08, 7, 0x12, 1, b'm', 0x1a, 58, 0x0a, 40];
        expected.extend(b"type.googleapis.com/google.rpc.ErrorInfo");
        expected.extend([0x12, 14, 0x0a, 1, b'R', 0x12, 1, b'd', 0x1a, 6, 0x0a, 1, b'k', 0x12, 1, b'v']);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn rl_02_the_time_to_wait_is_a_retry_info() {
        let info = ErrorInfo {
            reason: "R",
            domain: "d",
            metadata: &[],
            retry: Some(Duration::from_millis(300_500)),
        };
        let bytes = info.to_status_bytes(Code::ResourceExhausted, "m");
        let mut expected = vec![0x1a, 55, 0x0a, 40];
        expected.extend(b"type.googleapis.com/google.rpc.RetryInfo");
        // 300 s and 500,000,000 ns.
        expected.extend([0x12, 11, 0x0a, 9, 0x08, 0xac, 2, 0x10, 0x80, 0xca, 0xb5, 0xee, 1]);
        assert!(bytes.ends_with(&expected), "{bytes:?}");
    }

    #[test]
    fn rpc_02_a_refusal_is_trailers_only() {
        let info = ErrorInfo { reason: "DENIED", domain: "portcullis", metadata: &[], retry: None };
        let response = trailers_only(Code::PermissionDenied, "not allowed", Some(&info));
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["grpc-status"], "7");
        assert_eq!(headers["grpc-message"], "not allowed");
        assert_eq!(headers["content-type"], "application/grpc");
        assert!(!headers["grpc-status-details-bin"].to_str().unwrap().contains('='));
    }
}
