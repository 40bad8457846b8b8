//! One pass over a leaf that finds the members queries ask for, without copying and without decoding the rest. Members
//! that are maps are passed over by their lengths: whoever decodes the record checks what stands in them.

use std::net::IpAddr;

use policies_engine::DecisionId;

use super::{
    Kind, LeafError, VERSION,
    decode::{address, commitment},
    key,
};
use crate::{
    cbor::{CborError, Reader},
    commit::{self, Commitment},
};

/// The members of a leaf that filters read. Absent members are empty.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View<'a> {
    pub(crate) kind: u64,
    pub(crate) id: &'a [u8],
    pub(crate) time: i64,
    pub(crate) effect: Option<u64>,
    pub(crate) reason: Option<&'a str>,
    stream: &'a [u8],
    would: &'a [u8],
    principal: &'a [u8],
    pub(crate) action: Option<&'a str>,
    resource: &'a [u8],
    pub(crate) service: Option<&'a str>,
    namespaces: &'a [u8],
    credential: &'a [u8],
    connection: &'a [u8],
    notes: &'a [u8],
    pub(crate) phase: Option<&'a str>,
    determining: &'a [u8],
    versions: &'a [u8],
    request: &'a [u8],
    trace: &'a [u8],
    body: &'a [u8],
}

/// Lane and number of a record, for completeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) boot: [u8; 8],
    pub(crate) lane: u16,
    pub(crate) seq: u64,
}

impl<'a> View<'a> {
    pub(crate) fn of(leaf: &'a [u8]) -> Result<Self, LeafError> {
        let mut view = Self::default();
        let mut version = None;
        let mut reader = Reader::new(leaf);
        reader.int_map(|at, value| {
            match at {
                key::V => version = Some(value.uint()?),
                // Another version may have another shape: look no further.
                _ if version != Some(VERSION) => {
                    value.leap()?;
                }
                key::KIND => view.kind = value.uint()?,
                key::ID => view.id = value.bytes()?,
                key::STREAM => view.stream = value.leap()?,
                key::TIME => view.time = value.int()?,
                key::EFFECT => view.effect = Some(value.uint()?),
                key::REASON => view.reason = Some(value.text()?),
                key::WOULD => view.would = value.leap()?,
                key::PRINCIPAL => view.principal = value.leap()?,
                key::ACTION => view.action = Some(value.text()?),
                key::RESOURCE => view.resource = value.leap()?,
                key::SERVICE => view.service = Some(value.text()?),
                key::NAMESPACES => view.namespaces = value.leap()?,
                key::CREDENTIAL => view.credential = value.leap()?,
                key::CONNECTION => view.connection = value.leap()?,
                key::NOTES => view.notes = value.leap()?,
                key::PHASE => view.phase = Some(value.text()?),
                key::DETERMINING => view.determining = value.leap()?,
                key::VERSIONS => view.versions = value.leap()?,
                key::REQUEST => view.request = value.leap()?,
                key::TRACE => view.trace = value.leap()?,
                key::BODY => view.body = value.leap()?,
                _ => {
                    value.leap()?;
                }
            }
            Ok(())
        })?;
        reader.end()?;
        match version {
            Some(VERSION) => Ok(view),
            Some(other) => Err(LeafError::Version(other)),
            None => Err(LeafError::Missing("v")),
        }
    }

    /// The same of bytes that nobody has checked: all of them must have the form of a leaf.
    pub(crate) fn checked(leaf: &'a [u8]) -> Result<Self, LeafError> {
        Reader::new(leaf).skip()?;
        Self::of(leaf)
    }

    /// The id alone, without a look at the rest. `None` for what is no leaf of this version.
    pub(crate) fn peek_id(leaf: &[u8]) -> Option<DecisionId> {
        let mut id = None;
        let walk = Reader::new(leaf).int_map(|at, value| match at {
            key::V if value.uint()? == VERSION => Ok(()),
            key::KIND => value.skip().map(|_| ()),
            key::ID => {
                id = Some(DecisionId::from_bytes(value.byte_array()?));
                Err(CborError::Trailing)
            }
            _ => Err(CborError::Range),
        });
        // The walk ends with the id, which is how it is told from one that found none.
        id.filter(|_| walk == Err(CborError::Trailing))
    }

    pub(crate) fn kind(&self) -> Kind {
        Kind(self.kind)
    }

    pub(crate) fn place(&self) -> Result<Place, LeafError> {
        let mut place = Place { boot: [0; 8], lane: 0, seq: 0 };
        Reader::new(self.stream).text_map(|name, value| {
            match name {
                "seq" => place.seq = value.uint()?,
                "boot" => place.boot = value.byte_array()?,
                "lane" => place.lane = u16::try_from(value.uint()?).or(Err(CborError::Range))?,
                _ => {
                    value.leap()?;
                }
            }
            Ok(())
        })?;
        Ok(place)
    }

    pub(crate) fn enforcer(&self) -> Option<&'a str> {
        text_member(self.stream, "enforcer")
    }

    /// Id of the caller; of one who is committed the word for that.
    pub(crate) fn principal(&self) -> Option<&'a str> {
        text_member(self.principal, "id").or_else(|| self.commitment().map(|_| commit::WORD))
    }

    /// What the id of the caller is committed to, where it is.
    pub(crate) fn commitment(&self) -> Option<Commitment> {
        member(self.principal, "id").and_then(|value| commitment(value).ok())
    }

    pub(crate) fn resource(&self) -> Option<&'a str> {
        text_member(self.resource, "id")
    }

    /// Namespace of the called service.
    pub(crate) fn callee(&self) -> Option<&'a str> {
        text_member(self.namespaces, "callee")
    }

    /// Namespace of the caller.
    pub(crate) fn caller(&self) -> Option<&'a str> {
        text_member(self.namespaces, "caller")
    }

    pub(crate) fn serial(&self) -> Option<&'a str> {
        text_member(self.credential, "serial")
    }

    pub(crate) fn source_ip(&self) -> Option<IpAddr> {
        address(member(self.connection, "source_ip")?.bytes().ok()?).ok()
    }

    /// Whether a determining policy carries that ticket.
    pub(crate) fn has_ticket(&self, ticket: &str) -> bool {
        member(self.notes, "ticket").is_some_and(|list| texts(list).contains(&ticket))
    }

    /// The determining policies of the verdict.
    pub(crate) fn determining(&self) -> Vec<&'a str> {
        texts(Reader::new(self.determining))
    }

    /// The determining policies of the would-be verdict.
    pub(crate) fn would_determining(&self) -> Vec<&'a str> {
        member(self.would, "determining").map(texts).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> Option<&'a str> {
        text_member(self.request, "path")
    }

    pub(crate) fn would_effect(&self) -> Option<u64> {
        member(self.would, "effect").and_then(|mut value| value.uint().ok())
    }

    pub(crate) fn policies_version(&self) -> Option<u64> {
        member(self.versions, "policies").and_then(|mut value| value.uint().ok())
    }

    /// What judged, encoded.
    pub(crate) fn versions(&self) -> &'a [u8] {
        self.versions
    }

    /// Hash of the policy manifest that judged.
    pub(crate) fn manifest(&self) -> Option<&'a [u8]> {
        member(self.versions, "manifest").and_then(|mut value| value.bytes().ok())
    }

    pub(crate) fn trace_id(&self) -> Option<&'a [u8]> {
        member(self.trace, "trace_id").and_then(|mut value| value.bytes().ok())
    }

    /// Whether that policy is among the determining ones, of the verdict or of the would-be verdict.
    pub(crate) fn is_determined_by(&self, policy: &str) -> bool {
        let mut found = false;
        self.each_policy(|determining| found |= determining == policy);
        found
    }

    /// The determining policies, of the verdict and of the would-be verdict.
    pub(crate) fn each_policy(&self, mut each: impl FnMut(&'a str)) {
        let would = member(self.would, "determining");
        for mut list in [Some(Reader::new(self.determining)), would].into_iter().flatten() {
            let read = list.array(|item| {
                each(item.text()?);
                Ok(())
            });
            // A list that is none has no more of them; whoever decodes the record says so.
            read.unwrap_or_default();
        }
    }

    /// What a record that is no decision says.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// The texts of a list; none of what is no such list.
fn texts<'a>(mut list: Reader<'a>) -> Vec<&'a str> {
    let mut texts = Vec::new();
    let read = list.array(|item| {
        texts.push(item.text()?);
        Ok(())
    });
    read.map(|()| texts).unwrap_or_default()
}

fn text_member<'a>(map: &'a [u8], name: &str) -> Option<&'a str> {
    member(map, name).and_then(|mut value| value.text().ok())
}

/// The value of one member of an encoded map; `None` also for what is no map.
fn member<'a>(map: &'a [u8], name: &str) -> Option<Reader<'a>> {
    Reader::new(map).member(name)
}
