//! A judged call as its route declares it changed: another path, another host, other fields. The result is a call like
//! any other, canonical again, and what the upstream receives (CC-09).

use std::sync::Arc;

use super::{Call, CallProtocol, Inner, Spelling, Text};
use crate::canonical::{self, Path};
use crate::edits::FieldEdits;
use crate::fields::Fields;
use crate::{NotCanonical, grpc};

/// What is changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rewriting<'a> {
    /// Another authority.
    pub authority: Option<&'a str>,
    /// Another path; the query stays.
    pub path: Option<&'a str>,
    /// Other fields.
    pub fields: Option<&'a FieldEdits>,
}

impl Call {
    /// The call so changed.
    ///
    /// # Errors
    /// When the new path or authority is not canonical.
    pub fn rewritten(&self, rewriting: &Rewriting<'_>) -> Result<Self, NotCanonical> {
        let authority = match rewriting.authority {
            Some(authority) => canonical::authority(authority.as_bytes(), self.scheme())?.into_owned(),
            None => self.authority().to_owned(),
        };
        let path = match rewriting.path.map(|path| canonical::spelled(path.as_bytes())).transpose()? {
            // Made of parts of the judged path, it may have what that has.
            Some((Path::Canonical(path), kept)) => kept.beyond(self.0.spelling.kept).map_or(Ok(path), Err)?,
            Some((Path::Other { rule, .. }, _)) => {
                return Err(NotCanonical::bad(rule, "the rewritten path is not in canonical form"));
            }
            None => self.path(),
        };
        let fields = match rewriting.fields {
            Some(edits) => {
                let mut map = self.0.fields.to_map(&[]);
                edits.apply(&mut map);
                Fields::Map(map)
            }
            None => self.0.fields.clone(),
        };
        Ok(Self(Arc::new(Inner {
            method: self.0.method.clone(),
            scheme: self.0.scheme,
            authority: Text::Owned(authority.into()),
            path: Text::Owned(path.into()),
            query: Text::Owned(self.query().unwrap_or_default().into()),
            has_query: self.0.has_query,
            media_type: self.media_type().map(|kind| Text::Owned(kind.into())),
            body: self.0.body,
            protocol: self.0.protocol,
            upgrade: self.0.upgrade,
            grpc_method: match self.0.protocol {
                CallProtocol::Grpc => grpc::method_offset(path),
                _ => None,
            },
            grpc_timeout: self.0.grpc_timeout,
            trailers: self.0.trailers,
            // How the path was sent is known as long as it is that one.
            spelling: match rewriting.path {
                Some(_) => Spelling { kept: self.0.spelling.kept, other: None },
                None => self.0.spelling.clone(),
            },
            fields,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scheme, Transport};

    fn call(target: &str) -> Call {
        let request =
            http::Request::builder().version(http::Version::HTTP_2).uri(format!("https://h.test{target}"));
        let parts = request.header("x-a", "1").body(()).unwrap().into_parts().0;
        Call::from_parts(&parts, true, &Transport::new(Scheme::Https)).unwrap()
    }

    #[test]
    fn cc_09_a_rewritten_call_is_told_the_same_over_both_versions() {
        let rewriting = Rewriting { authority: Some("Inner.test:8080"), path: Some("/b%20c"), fields: None };
        for (given, target) in [("/a?q=%2F", "/b%20c?q=%2F"), ("/a", "/b%20c"), ("/a?", "/b%20c?")] {
            let told = call(given).rewritten(&rewriting).unwrap();
            let request = told.to_h3_request(None, &[]).unwrap();
            assert_eq!(request.uri().to_string(), format!("https://inner.test:8080{target}"));
            let mut out = bytes::BytesMut::new();
            told.write_h1(&mut out, &[]);
            let text = String::from_utf8(out.to_vec()).unwrap();
            assert!(
                text.starts_with(&format!("GET {target} HTTP/1.1\r\nhost: inner.test:8080\r\nx-a: 1\r\n")),
                "{text}"
            );
        }
        let same = call("/a?q").rewritten(&Rewriting::default()).unwrap();
        assert_eq!(same.to_h3_request(None, &[]).unwrap().uri().to_string(), "https://h.test/a?q");
    }

    #[test]
    fn cc_09_what_a_rewrite_makes_must_be_canonical() {
        for path in ["/a/../b", "/%41", "a", "/a;b", "/a b", "/a\r\nx: y", ""] {
            let rewriting = Rewriting { path: Some(path), ..Rewriting::default() };
            assert!(call("/").rewritten(&rewriting).is_err(), "{path:?}");
        }
        let rewriting = Rewriting { authority: Some("a b"), ..Rewriting::default() };
        assert!(call("/").rewritten(&rewriting).is_err());
    }
}
